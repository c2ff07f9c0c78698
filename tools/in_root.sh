#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-or-later
# in_root.sh HOST COMMAND...: runs COMMAND, in this tree, in the root file system HOST/root and with HOST/build as the
# tree's build folder. /tmp is the caller's own. The mounts are seen by COMMAND alone and end with its last process; COMMAND
# replaces this script, so that it has our process id and a parent death signal reaches it.
set -euo pipefail
tree=$(dirname "$(dirname "$(readlink -f "$0")")")
host=$(readlink -f "$1")
shift

if [ "${IN_ROOT_MOUNTS-}" != own ]; then
    exec env IN_ROOT_MOUNTS=own unshare --mount --propagation private "$0" "$host" "$@"
fi

root=$host/root
mkdir -p "$root$tree" "$host/build"
for folder in /proc /sys /dev; do
    mount --rbind "$folder" "$root$folder"
done
mount --bind /tmp "$root/tmp"
mount -t tmpfs -o mode=755 tmpfs "$root/run"
mount --bind "$tree" "$root$tree"
mount --bind "$host/build" "$root$tree/build"

# The caller's locale and tools need not exist in there.
unset IN_ROOT_MOUNTS LANGUAGE "${!LC_@}"
export LANG=C.UTF-8 HOME=/root PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
exec chroot "$root" /bin/sh -c 'cd "$0" && exec "$@"' "$tree" "$@"
