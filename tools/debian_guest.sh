# SPDX-License-Identifier: GPL-2.0-or-later
# A guest with Debian's own nginx, Redis and fio on a disk, for tests and benchmarks. Read by ./dev.

DEBIAN_GUEST=$BUILD/debian-guest # disk.ext4, and large.bin, which nginx serves
DEBIAN_GUEST_MB=512
DEBIAN_GUEST_PACKAGES=nginx-light,redis-server,fio

# make_debian_root FOLDER: of this machine's Debian, from the mirrors this machine uses.
make_debian_root() {
    local suite
    suite=$(. /etc/os-release && echo "$VERSION_CODENAME")
    need_lists
    /usr/bin/python3 -B tools/apt_sources.py deb |
        as_root mmdebstrap --mode=root --variant=minbase --aptopt='Acquire::Retries "2"' --include="$DEBIAN_GUEST_PACKAGES" --dpkgopt='path-exclude=/usr/share/doc/*' \
            --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' "$suite" "$1" - 2>&1 |
        tee "$1.log" | sed -un 's/^I: /   /p'
}

# make_debian_disk FOLDER: FOLDER/root becomes FOLDER/disk.ext4. No loop device is needed.
make_debian_disk() {
    local root=$1/root
    head -c 32M /dev/urandom >"$1/large.bin"
    as_root install -m 755 tests/guest/debian/init "$root/sbin/futago-init"
    as_root install -m 644 tests/guest/debian/nginx.conf tests/guest/debian/redis.conf "$root/etc/"
    as_root install -D -m 644 "$1/large.bin" "$root/srv/large.bin"
    truncate -s "${DEBIAN_GUEST_MB}M" "$1/disk.ext4"
    as_root mke2fs -q -t ext4 -d "$root" "$1/disk.ext4"
    as_root rm -rf --one-file-system "$root"
}

# Made once for what it is made from. One that was not finished has another name and is never used.
setup_debian_guest() {
    local state new=$DEBIAN_GUEST.new
    state="$DEBIAN_GUEST_PACKAGES $(cat tests/guest/debian/* tools/debian_guest.sh | sha256sum)"
    if is_done debian-guest "$state" && [ -e "$DEBIAN_GUEST/disk.ext4" ]; then
        return
    fi
    say "making a Debian guest with nginx, Redis and fio: half a minute, once"
    as_root rm -rf --one-file-system "$DEBIAN_GUEST" "$new"
    mkdir -p "$new"
    make_debian_root "$new/root" || die "no Debian guest could be made: $(grep -m 1 '^E: ' "$new/root.log" || tail -n 1 "$new/root.log")"
    make_debian_disk "$new"
    mv "$new" "$DEBIAN_GUEST"
    mark_done debian-guest "$state"
}

# With what it is made with.
need_debian_guest() {
    need_packages "${TEST_PACKAGES[@]}"
    hold_lock
    setup_debian_guest
    release_lock
}
