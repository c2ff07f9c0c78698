# SPDX-License-Identifier: GPL-2.0-or-later
# Which Debian packages are needed, and how they get here. Read by ./dev.

PACKAGES=(
    qemu-system-x86                                       # the QEMU that is protected
    gcc libc6-dev meson ninja-build pkg-config            # compiling
    libglib2.0-dev libjansson-dev libxxhash-dev           # libraries
    libgnutls28-dev                                       # TLS of the link between the hosts
    libcurl4-gnutls-dev                                   # the flavour that QEMU has loaded, too; loaded when an etcd is asked
    libbpf-dev libelf-dev                                 # read the types of a guest's kernel, and a file of its symbols
    liblz4-dev libzstd-dev                                # what is sent over slow links is compressed
    liburing-dev                                          # is inside QEMU's own structures
    nbdkit-plugin-dev libnbd-dev                          # the relocating disk
    dpkg-dev                                              # unpacks QEMU's source package
    python3 python3-pytest clang-format                   # tests and style
    busybox-static cpio iproute2                          # the test guest and its networks
)
TEST_PACKAGES=(openssl gnutls-bin qemu-utils  # make the certificates, keys and disk images of tests
    mmdebstrap e2fsprogs                      # make the Debian guest, and Debian 13
    nbdkit libnbd-bin python3-libnbd          # NBD servers and clients
    qemu-block-extra)                         # an iSCSI initiator
BENCH_PACKAGES=(python3-matplotlib fio tcc)
SUPPORTED="supported: Debian 12 with its QEMU 7.2, Debian 13 with its QEMU 10.0, on x86-64"
LISTS_MAX_AGE_DAYS=7

check_platform() {
    local distribution
    distribution=$(. /etc/os-release 2>/dev/null && echo "${ID-} ${VERSION_ID-}") || true
    case "$distribution $(uname -m)" in
    'debian 12 x86_64' | 'debian 13 x86_64') ;;
    *) die "this is ${distribution:-an unknown system} on $(uname -m): $SUPPORTED" ;;
    esac
}

as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        command -v sudo >/dev/null || die "need root to run \"$*\": install sudo, or run ./dev setup once as root"
        sudo "$@"
    fi
}

# A mirror that is slow to answer is asked again, one that hangs is not waited for, and another apt is.
APT_PATIENCE=(-o Acquire::Retries=2 -o Acquire::http::Timeout=40 -o Acquire::https::Timeout=40 -o DPkg::Lock::Timeout=300)

# update_with APT_WORD...: also a list that could not be fetched is a failure, worth another try. One that never comes may be
# of an archive that we do not need.
update_with() {
    patiently "$@" -o APT::Update::Error-Mode=any -qq update || "$@" -qq update
}

update_lists() {
    say "apt-get update"
    update_with as_root apt-get "${APT_PATIENCE[@]}" || say "apt-get update failed: going on with the lists that are here"
}

# The package lists are fetched only where there are none, or old ones.
need_lists() {
    local newest
    newest=$(find /var/lib/apt/lists -maxdepth 1 -name '*Packages*' -mtime "-$LISTS_MAX_AGE_DAYS" -print -quit 2>/dev/null)
    [ -n "$newest" ] || update_lists
}

# Prints those of the named packages that are not installed.
missing_packages() {
    local package
    for package in "$@"; do
        case $(dpkg-query -W -f=' ${db:Status-Status} ' "$package" 2>/dev/null) in
        *' installed '*) ;;
        *) echo "$package" ;;
        esac
    done
}

install_packages() {
    mkdir -p "$BUILD"
    quietly "$BUILD/install.log" \
        as_root env DEBIAN_FRONTEND=noninteractive apt-get "${APT_PATIENCE[@]}" -q -y --no-install-recommends install "$@"
}

# need_packages [MORE...]: the packages of the house, and these. Installs what is missing, and says what.
need_packages() {
    local missing
    check_platform
    mapfile -t missing < <(missing_packages "${PACKAGES[@]}" "$@")
    [ ${#missing[@]} -eq 0 ] && return
    say "installing with apt-get: ${missing[*]}"
    need_lists
    install_packages "${missing[@]}" && return
    # A mirror drops old versions: the lists may be younger than a week and yet too old.
    update_lists
    patiently install_packages "${missing[@]}" || die "apt-get could not install ${missing[*]}: see its message above"
}
