# SPDX-License-Identifier: GPL-2.0-or-later
# What a build needs beside packages: QEMU's headers, the test guest, the Meson folders. Read by ./dev.

# What a program of QEMU's says of itself: "7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)".
installed_qemu() {
    qemu-system-x86_64 --version | sed -n 's/^QEMU emulator version //p'
}

check_qemu() {
    QEMU_SAYS=$(installed_qemu)
    case $QEMU_SAYS in
    '7.2.'*'(Debian '* | '10.0.'*'(Debian '*) ;;
    *) die "the installed QEMU is ${QEMU_SAYS:-unknown}: $SUPPORTED" ;;
    esac
}

# apt_room FOLDER TYPE [SUITE]: a place where apt works on lists of its own, derived from this machine's configuration.
# The system's lists stay as they are. Prints the configuration file for apt-get's -c.
apt_room() {
    local room=$1
    rm -rf "$room"
    mkdir -p "$room/lists/partial" "$room/cache/archives/partial"
    /usr/bin/python3 -B tools/apt_sources.py "${@:2}" >"$room/debian.sources"
    cat >"$room/apt.conf" <<CONF
Dir::Etc::sourcelist "$room/debian.sources";
Dir::Etc::sourceparts "-";
Dir::State::lists "$room/lists";
Dir::Cache "$room/cache";
APT::Sandbox::User "$(id -un)";
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
CONF
    echo "$room/apt.conf"
}

download_source() {
    (cd "$1" && quietly "$1/fetch.log" apt-get -c "$2" "${APT_PATIENCE[@]}" -qq source --download-only "$3")
}

# fetch_source ROOM VERSION [SUITE]: QEMU's source package (VERSION "" is the newest), unpacked into ROOM/source.
fetch_source() {
    local room=$1 version=$2 conf
    need_lists
    conf=$(apt_room "$room" deb-src "${@:3}")
    update_with apt-get -c "$conf" "${APT_PATIENCE[@]}"
    patiently download_source "$room" "$conf" "qemu${version:+=$version}" ||
        die "Debian's archive has no source of QEMU $version: bring qemu-system-x86 up to date (apt-get update, apt-get install qemu-system-x86)"
    (cd "$room" && quietly "$room/unpack.log" dpkg-source --no-copy --no-check -x qemu_*.dsc source)
}

# The headers of the installed QEMU; build/qemu/current names them.
setup_headers() {
    local source_version state room=$BUILD/apt
    source_version=$(dpkg-query -W -f='${source:Version}' qemu-system-x86)
    state="$QEMU_SAYS $source_version $(sha256sum <tools/qemu_headers.py)"
    if is_done headers "$state" && [ -e "$BUILD/qemu/current/qemu-build.h" ]; then
        return
    fi
    say "fetching the headers of QEMU $QEMU_SAYS"
    fetch_source "$room" "$source_version"
    /usr/bin/python3 -B tools/qemu_headers.py "$room/source" "$BUILD/qemu/installed" "${QEMU_SAYS%% *}" \
        "$(sed 's/^[^(]*(//; s/)$//' <<<"$QEMU_SAYS")"
    ln -sfn installed "$BUILD/qemu/current"
    rm -rf "$room"
    mark_done headers "$state"
}

# download_package FOLDER PACKAGE: as a package file. Fails where the lists are too old for the mirror.
download_package() {
    rm -rf "$1"
    mkdir -p "$1"
    (cd "$1" && apt-get "${APT_PATIENCE[@]}" -o "APT::Sandbox::User=$(id -un)" -qq download "$2")
}

# download_newest FOLDER METAPACKAGE: the kernel that it stands for.
download_newest() {
    local package
    package=$(apt-cache depends --important "$2" | sed -n 's/^ *Depends: //p' | head -n 1)
    [ -n "$package" ] || die "apt knows no $2: add Debian's main archive and run apt-get update"
    download_package "$1" "$package"
}

# Debian's cloud kernel.
download_kernel() {
    download_newest "$1" linux-image-cloud-amd64
}

# The one with drivers for what real machines have.
download_generic_kernel() {
    download_newest "$1" linux-image-amd64
}

# Debian 13's, wherever we are.
download_kernel13() {
    local conf room=$BUILD/apt-kernel13
    conf=$(apt_room "$room" deb trixie)
    update_with apt-get -c "$conf" "${APT_PATIENCE[@]}"
    APT_CONFIG=$conf download_newest "$1" linux-image-cloud-amd64
}

download_etcd() {
    download_package "$1" etcd-server
}

download_tgt() {
    download_package "$1" tgt
}

# fetch_package WHAT FOLDER PATTERN...: runs download_WHAT; what matches is unpacked into FOLDER. Nothing is installed.
fetch_package() {
    local what=$1 folder=$2 package=$2/package
    need_lists
    "download_$what" "$package" || {
        update_lists
        patiently "download_$what" "$package" || die "cannot fetch Debian's package of $what: see apt's message above"
    }
    dpkg-deb --fsys-tarfile "$package"/*.deb | tar -x -C "$folder" --wildcards "${@:3}"
    rm -rf "$package"
}

# The host's /boot is left alone.
fetch_kernel() {
    fetch_package kernel "$BUILD/kernel" '*/boot/vmlinuz-*' '*/modules.builtin' '*/kernel/drivers/*virtio*' '*failover.ko*' \
        '*/kernel/drivers/scsi/s*' '*/kernel/drivers/ata/*'
}

# Tests of the arbiter want etcd, but not as a service of this machine.
setup_etcd() {
    [ -x "$BUILD/etcd/usr/bin/etcd" ] && return
    say "fetching etcd for the tests"
    mkdir -p "$BUILD/etcd"
    fetch_package etcd "$BUILD/etcd" '*/usr/bin/etcd'
}

# An iSCSI target for a test, in user space; installed it would be a service of this machine.
setup_tgt() {
    [ -x "$BUILD/tgt/usr/sbin/tgtd" ] && return
    say "fetching tgt for the tests"
    mkdir -p "$BUILD/tgt"
    fetch_package tgt "$BUILD/tgt" '*/usr/sbin/tgt*'
}

# The test guest with Debian's generic kernel, for devices that the cloud kernel has no drivers for.
setup_generic_guest() {
    local state
    state=$(cat tests/guest/*.* tests/guest/guest-init tools/setup.sh | sha256sum)
    if is_done generic-guest "$state" && [ -e "$BUILD/guest-generic/initrd.img" ]; then
        return
    fi
    say "making the test guest with Debian's generic kernel"
    # 6.12 has no fscache module any more: a pattern that finds nothing would be an error.
    if ! compgen -G "$BUILD/kernel-generic/lib/modules/*/kernel/fs/9p/9p.ko*" >/dev/null &&
        ! compgen -G "$BUILD/kernel-generic/usr/lib/modules/*/kernel/fs/9p/9p.ko*" >/dev/null; then
        rm -rf "$BUILD/kernel-generic"
        mkdir -p "$BUILD/kernel-generic"
        fetch_package generic_kernel "$BUILD/kernel-generic" '*/boot/vmlinuz-*' '*/modules.builtin' '*/kernel/drivers/*virtio*' \
            '*failover.ko*' '*/kernel/drivers/scsi/s*' '*/kernel/drivers/ata/*' '*/kernel/drivers/net/ethernet/intel/e1000*' \
            '*/kernel/drivers/block/*' '*/kernel/drivers/char/hw_random/*' '*/kernel/block/*' '*/kernel/lib/*' '*/kernel/crypto/*' '*/kernel/arch/x86/crypto/*' '*/kernel/drivers/usb/common/*' \
            '*/kernel/fs/9p/*' '*/kernel/net/9p/*' '*/kernel/fs/*/[fn][se][ct]*.ko*' '*/kernel/fs/overlayfs/*' \
            '*/kernel/arch/x86/kvm/*' '*/kernel/virt/*' '*/kernel/drivers/crypto/ccp/*' '*/kernel/drivers/net/tun.ko*' \
            '*/kernel/drivers/net/veth.ko*' '*/kernel/net/bridge/bridge.ko*' '*/kernel/net/802/*' '*/kernel/net/llc/*'
    fi
    /usr/bin/python3 -B tests/guest/make_guest.py "$BUILD/kernel-generic" "$BUILD/guest-generic" ahci e1000 e1000e
    mark_done generic-guest "$state"
}

# What tools/kvm_host.py boots: Debian's generic kernel, with an initramfs of its own.
KVM_HOST=$BUILD/kvm-host
setup_kvm_host() {
    local state
    state=$(cat tools/kvm_host* tests/guest/make_guest.py tools/setup.sh | sha256sum)
    if is_done kvm-host "$state" && [ -e "$KVM_HOST/initrd.img" ]; then
        return
    fi
    say "making the machine that has KVM"
    mkdir -p "$KVM_HOST"
    /usr/bin/python3 -B tools/kvm_host.py --make "$BUILD/kernel-generic" "$KVM_HOST/initrd.img"
    mark_done kvm-host "$state"
}

# The test guest with Debian 13's kernel, for what depends on the kernel.
setup_guest13() {
    local state
    state=$(cat tests/guest/*.* tests/guest/guest-init | sha256sum)
    if is_done guest13 "$state" && [ -e "$BUILD/guest13/initrd.img" ]; then
        return
    fi
    say "making the test guest with Debian 13's kernel"
    if ! compgen -G "$BUILD/kernel13/boot/vmlinuz-*" >/dev/null; then
        mkdir -p "$BUILD/kernel13"
        fetch_package kernel13 "$BUILD/kernel13" '*/boot/vmlinuz-*' '*/modules.builtin' '*/kernel/drivers/*virtio*' '*failover.ko*' \
            '*/kernel/drivers/scsi/s*' '*/kernel/drivers/ata/*'
        rm -rf "$BUILD/apt-kernel13"
    fi
    /usr/bin/python3 -B tests/guest/make_guest.py "$BUILD/kernel13" "$BUILD/guest13"
    mark_done guest13 "$state"
}

setup_guest() {
    local state
    state=$(cat tests/guest/*.* tests/guest/guest-init | sha256sum)
    if is_done guest "$state" && [ -e "$BUILD/guest/initrd.img" ]; then
        return
    fi
    say "making the test guest: Debian's cloud kernel and busybox"
    compgen -G "$BUILD/kernel/lib/modules/*/kernel/drivers/scsi/sd_mod.ko*" >/dev/null || fetch_kernel
    /usr/bin/python3 -B tests/guest/make_guest.py "$BUILD/kernel" "$BUILD/guest"
    mark_done guest "$state"
}

setup_all() {
    hold_lock
    need_packages
    check_qemu
    setup_headers
    setup_guest
}

# What the integration tests want beside that.
setup_tests() {
    need_packages "${TEST_PACKAGES[@]}" "${BENCH_PACKAGES[@]}"
    hold_lock
    setup_etcd
    setup_tgt
    setup_generic_guest
    setup_kvm_host
    setup_guest13
    release_lock
}

# compile FOLDER [TARGET...], silent unless it has something to say.
compile() {
    ninja --quiet -C "$@" | sed '/no work to do/d'
}

# meson_build FOLDER [OPTION...]: configures where it must, compiles what changed.
meson_build() {
    local folder=$1 state
    shift
    state="$* $(cat "$BUILD/qemu/current/qemu-build.h")"
    local name=${folder#"$BUILD"}
    name=meson${name//\//-}
    mkdir -p "$folder"
    if [ ! -e "$folder/build.ninja" ]; then
        say "configuring ${folder#"$ROOT/"}"
        quietly "$folder/setup.log" meson setup "$folder" "$@" || die "meson could not configure: see above"
    elif ! is_done "$name" "$state"; then
        quietly "$folder/setup.log" meson setup --reconfigure "$folder" "$@" || die "meson could not configure: see above"
    fi
    mark_done "$name" "$state"
    compile "$folder" || die "it does not compile: see above"
}

build_all() {
    setup_all
    meson_build "$BUILD"
    release_lock
}

build_sanitized() {
    hold_lock
    meson_build "$BUILD/asan" -Db_sanitize=address,undefined -Db_lundef=false
    release_lock
}

# The module for another Debian's QEMU: shows that the one source still compiles for both.
build_for_debian() {
    local suite package state out=$BUILD/debian-$1 room=$BUILD/apt-$1
    [ "$1" = 12 ] && suite=bookworm || suite=trixie
    state=$(sha256sum <tools/qemu_headers.py)
    if ! is_done "headers-$1" "$state" || [ ! -e "$out/qemu/qemu-build.h" ]; then
        say "fetching the headers of Debian $1's QEMU"
        mkdir -p "$out"
        fetch_source "$room" "" "$suite"
        package=$(cd "$room/source" && dpkg-parsechangelog -S Version)
        /usr/bin/python3 -B tools/qemu_headers.py "$room/source" "$out/qemu" "$(cat "$room/source/VERSION")" "Debian $package"
        rm -rf "$room"
        mark_done "headers-$1" "$state"
    fi
    [ -e "$out/build.ninja" ] || quietly "$out/setup.log" meson setup "$out" "-Dqemu_headers=$out/qemu"
    compile "$out" src/qemu/futago.so src/qemu/futago-qemu.so || die "it does not compile: see above"
    say "compiled for Debian $1: ${out#"$ROOT/"}/src/qemu"
}
