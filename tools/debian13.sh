# SPDX-License-Identifier: GPL-2.0-or-later
# A Debian 13 beside this Debian: a root file system of its own, in which ./dev builds and tests for its QEMU 10.0.
# Read by ./dev.

DEBIAN13=$BUILD/host-13 # root/ and, for ./dev in there, build/

# What this machine's apt was told about proxies and old dates holds for the root's as well.
apt_settings() {
    apt-config dump --format '%f %v%n' 'Acquire' | sed -nE 's/^(Acquire::(Check-[^ ]+|.*[Pp]roxy[^ ]*)) (.+)$/\1 "\3";/p'
}

# make_root FOLDER: Debian 13 with what ./dev wants there, from the mirrors this machine uses.
make_root() {
    local folder=$1 log=$BUILD/host-13.log packages
    packages=$(IFS=,; echo "${PACKAGES[*]},${TEST_PACKAGES[*]},${BENCH_PACKAGES[*]}")
    need_lists
    apt_settings >"$BUILD/host-13.conf"
    /usr/bin/python3 -B tools/apt_sources.py deb trixie |
        as_root mmdebstrap --mode=root --variant=apt --skip=cleanup/apt/lists --aptopt="$BUILD/host-13.conf" --aptopt='Acquire::Retries "2"' \
            --include="$packages" trixie "$folder" - 2>&1 | tee "$log" | sed -un 's/^I: /   /p' ||
        die "no Debian 13 root could be made: $(grep -m 1 '^E: ' "$log" || tail -n 1 "$log") (all of it: ${log#"$ROOT/"})"
}

# The root is made once for a list of packages, and its build folder with it: headers belong to the root's QEMU. A root
# that was not finished has another name and is never used.
setup_debian13() {
    local state
    state="${PACKAGES[*]} ${TEST_PACKAGES[*]} ${BENCH_PACKAGES[*]}"
    if is_done host-13 "$state" && [ -e "$DEBIAN13/root/usr/bin/qemu-system-x86_64" ]; then
        return
    fi
    say "making a Debian 13 root in ${DEBIAN13#"$ROOT/"}/root: 1.3 GB, a minute or two, once"
    as_root rm -rf --one-file-system "$DEBIAN13" "$DEBIAN13.new"
    mkdir -p "$DEBIAN13.new"
    make_root "$DEBIAN13.new/root"
    mv "$DEBIAN13.new" "$DEBIAN13"
    mark_done host-13 "$state"
}

in_debian13() {
    as_root env "CI=${CI-}" tools/in_root.sh "$DEBIAN13" "$@"
}

# collect_results FOLDER NAME: takes over what a ./dev in the root left in FOLDER, each under NAME-...
collect_results() {
    local file
    if [ ! -e "$1/expected" ]; then
        expect_results "$2"
        return
    fi
    sed "s/^/$2-/" "$1/expected" >>"$RESULTS/expected"
    for file in "$1"/*.junit.xml; do
        [ ! -e "$file" ] || cp "$file" "$RESULTS/$2-${file##*/}"
    done
}

# qemu10_suite [TEST...]: the integration tests, all or those of the named files, on QEMU 10.0 with Debian 13's kernel as the
# guest. It is ./dev that does it, in the root, as it would on a Debian 13. Without words also what needs both QEMUs.
qemu10_suite() {
    local results=$DEBIAN13/build/results
    if [[ $QEMU_SAYS == 10.0.* ]]; then
        integration_suite qemu10-integration "not long" "$@"
        return
    fi
    need_packages "${TEST_PACKAGES[@]}"
    hold_lock
    setup_debian13
    release_lock
    as_root rm -rf "$results"
    say "in the Debian 13 root: ./dev test integration $*"
    in_debian13 ./dev test integration "$@" || true
    collect_results "$results" qemu10
    [ $# -gt 0 ] || pytest_suite two-qemus tests/integration/two_qemus.py
}
