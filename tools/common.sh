# SPDX-License-Identifier: GPL-2.0-or-later
# Small helpers of ./dev, read by it with ".".

say() {
    printf '\033[1m==\033[0m %s\n' "$*" >&2
}

die() {
    printf 'dev: %s\n' "$*" >&2
    exit 1
}

wrong_use() {
    printf 'dev: %s (./dev help lists what there is)\n' "$*" >&2
    exit 2
}

# Only one ./dev at a time sets up or builds; the next one waits.
hold_lock() {
    mkdir -p "$BUILD"
    [ -n "${LOCK_FD-}" ] && return
    exec {LOCK_FD}>"$BUILD/.dev-lock"
    flock -n "$LOCK_FD" && return
    say "waiting for another ./dev to finish building"
    flock "$LOCK_FD"
}

release_lock() {
    exec {LOCK_FD}>&-
    LOCK_FD=
}

# is_done NAME STATE: has NAME been done for exactly this STATE? mark_done says so.
is_done() {
    [ "$(cat "$BUILD/.done-$1" 2>/dev/null)" = "$2" ]
}

mark_done() {
    printf '%s\n' "$2" >"$BUILD/.done-$1"
}

# quietly LOG COMMAND...: its output is shown only if it fails.
quietly() {
    local log=$1
    shift
    "$@" >"$log" 2>&1 && return
    cat "$log" >&2
    return 1
}

# patiently COMMAND...: what asks a mirror is tried a few times, for a mirror may answer slowly, or not at all for a moment.
# TRY_PAUSES_S are the seconds between.
TRY_PAUSES_S=(5 20 60)
patiently() {
    local pause
    for pause in "${TRY_PAUSES_S[@]}"; do
        "$@" && return
        say "failed: ${*:1:3} ...; trying again in $pause s"
        sleep "$pause"
    done
    "$@"
}

# What to put before a command that makes namespaces and taps. That needs root: where we are not, a user namespace gives
# what is needed without touching the host.
NAMESPACES=()
if [ "$(id -u)" != 0 ]; then
    NAMESPACES=(unshare --user --map-root-user --net --mount --propagation private
        sh -c 'mount -t tmpfs tmpfs /run && ip link set lo up && exec "$@"' sh)
fi
