# SPDX-License-Identifier: GPL-2.0-or-later
# bash completion for futago: commands, options, and the names of the VMs that run here.

# Names of the sockets in the run folder, or in a folder of it: disks.
_futago_vms() {
    local socket rundir=${FUTAGO_RUNDIR-}
    if [ -z "$rundir" ]; then
        if [ "$EUID" -eq 0 ]; then
            rundir=/run/futago
        elif [ -n "${XDG_RUNTIME_DIR-}" ]; then
            rundir=$XDG_RUNTIME_DIR/futago
        else
            rundir=/tmp/futago-$EUID
        fi
    fi
    for socket in "$rundir${1:+/$1}"/*.sock; do
        [ -S "$socket" ] || continue
        socket=${socket##*/}
        printf '%s\n' "${socket%.sock}"
    done
}

_futago_disk() {
    if [ "$COMP_CWORD" -eq 2 ]; then
        mapfile -t COMPREPLY < <(compgen -W "status rate policy pause resume detach" -- "$1")
    elif [ "$COMP_CWORD" -eq 3 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$(_futago_vms disks)" -- "$1")
    elif [ "${COMP_WORDS[2]}" = policy ]; then
        mapfile -t COMPREPLY < <(compgen -W "hot-first sequential idle-only none" -- "$1")
    fi
}

_futago_options() {
    local common="--name --arbiter --node --mode --flush --shared-disk --epoch-max-us --batch-max-us --heartbeat-ms --timeout-ms --retry-ms
        --commit-ms --verify --state-check --events --tracker --tracker-check --compress --on-panic --send-at-kick --force-generation --tls --tls-name --insecure --print --help"
    case $1 in
    run) echo "--protect-to $common" ;;
    standby) echo "--listen $common" ;;
    protect) echo "--to --wait --help" ;;
    failover) echo "--wait --help" ;;
    grant) echo "--generation --arbiter --node --help" ;;
    check) echo "--json --help" ;;
    status) echo "--json --watch --help" ;;
    events) echo "--json --help" ;;
    health) echo "--json --clear --clear-probe --help" ;;
    disk) echo "--json --watch --plot --wait --adaptive --help" ;;
    snapshot) echo "--store --full --soon --reason --hash --min --max --by --cost --stop --vm --contents --keep --hourly --daily --max-bytes --min-free --dry-run --json --help" ;;
    probe) echo "--name --filter --severity --on --symbols --wait --disabled --vm --json --help" ;;
    receive) echo "--listen --images --node --map --tls --tls-name --insecure --help" ;;
    restore) echo "--name --vm --lazy --ready --go --keep-connections --keep-clock --identity --identity-hook --check-hash --trust --force --arbiter --node --force-generation --print --help" ;;
    relocate) echo "--to --parallel --protect-to --hold --no-wait --follow --json --help" ;;
    unprotect | stop) echo "--help" ;;
    esac
}

_futago() {
    local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]} command=${COMP_WORDS[1]-}
    local commands="run standby check protect unprotect failover grant status events probe snapshot health stop disk receive relocate restore help" i
    COMPREPLY=()
    if [ "$COMP_CWORD" -eq 1 ]; then
        mapfile -t COMPREPLY < <(compgen -W "$commands --version" -- "$word")
        return
    fi
    for ((i = 2; i < COMP_CWORD; i++)); do
        if [ "${COMP_WORDS[i]}" = -- ]; then
            # From here on it is QEMU's command line: its program first, then files.
            if [ "$i" -eq $((COMP_CWORD - 1)) ]; then
                mapfile -t COMPREPLY < <(compgen -c -- "${word:-qemu-system-}")
            else
                mapfile -t COMPREPLY < <(compgen -f -- "$word")
            fi
            return
        fi
    done
    case $command:$before in
    probe:--severity) mapfile -t COMPREPLY < <(compgen -W "info warning error critical" -- "$word") ;;
    probe:--on) mapfile -t COMPREPLY < <(compgen -W "report failover failover-anyway snapshot stop command:/ ask:/" -- "$word") ;;
    probe:--vm) mapfile -t COMPREPLY < <(compgen -W "$(_futago_vms)" -- "$word") ;;
    probe:--filter | health:--clear-probe) ;;
    probe:probe) mapfile -t COMPREPLY < <(compgen -W "$([[ $word == -* ]] && _futago_options probe || echo add disable enable list remove suggest watch)" -- "$word") ;;
    probe:*)
        if [[ $word == -* ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$(_futago_options probe)" -- "$word")
        elif [ "$COMP_CWORD" -eq 3 ]; then
            mapfile -t COMPREPLY < <(compgen -W "$(_futago_vms)" -- "$word")
        elif [ "$COMP_CWORD" -eq 4 ] && [ "${COMP_WORDS[2]}" = add ]; then
            mapfile -t COMPREPLY < <(compgen -W "died disk-full ext4-error ext4-readonly hung-task io-error kernel-fault listen-overflow oom oops panic poweroff rcu-stall reboot segv soft-lockup warning" -- "$word")
        fi ;;
    snapshot:snapshot) mapfile -t COMPREPLY < <(compgen -W "$([[ $word == -* ]] && _futago_options snapshot || echo create auto status list show verify delete prune export diff)" -- "$word") ;;
    snapshot:--by) mapfile -t COMPREPLY < <(compgen -W "dirty cpu" -- "$word") ;;
    snapshot:--store) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    snapshot:create | snapshot:auto | snapshot:status) mapfile -t COMPREPLY < <(compgen -W "$(_futago_vms)" -- "$word") ;;
    help:*) [ "$COMP_CWORD" -gt 2 ] || mapfile -t COMPREPLY < <(compgen -W "$commands" -- "$word") ;;
    disk:--adaptive) mapfile -t COMPREPLY < <(compgen -W "on off" -- "$word") ;;
    run:--mode | standby:--mode) mapfile -t COMPREPLY < <(compgen -W "pipeline stop" -- "$word") ;;
    run:--events | standby:--events) mapfile -t COMPREPLY < <(compgen -W "all none net-tx net-rx disk-write disk-read console timer" -- "$word") ;;
    run:--tracker | standby:--tracker) mapfile -t COMPREPLY < <(compgen -W "queue words flags" -- "$word") ;;
    run:--compress | standby:--compress) mapfile -t COMPREPLY < <(compgen -W "auto none lz4 zstd" -- "$word") ;;
    run:--on-panic | standby:--on-panic) mapfile -t COMPREPLY < <(compgen -W "report restart stop" -- "$word") ;;
    run:--flush | standby:--flush) mapfile -t COMPREPLY < <(compgen -W "local both" -- "$word") ;;
    run:--arbiter | standby:--arbiter) mapfile -t COMPREPLY < <(compgen -W "file: etcd: command: manual:" -- "$word") ;;
    grant:--arbiter) mapfile -t COMPREPLY < <(compgen -W "manual:" -- "$word") ;;
    receive:--images) mapfile -t COMPREPLY < <(compgen -d -- "$word") ;;
    receive:--tls | run:--tls | standby:--tls) mapfile -t COMPREPLY < <(compgen -W "x509: psk:" -- "$word") ;;
    restore:--go) mapfile -t COMPREPLY < <(compgen -W "$(_futago_vms)" -- "$word") ;;
    *:--name | *:--vm | *:--keep | *:--hourly | *:--daily | *:--max-bytes | *:--min-free | *:--tls-name | *:--node | *:--listen | *:--protect-to | *:--to | *:--verify | *:--state-check | *:--tracker-check | *-us | *-ms | grant:--generation | protect:--wait | disk:--wait | receive:--map | relocate:--parallel) ;;
    *)
        if [[ ( $command == snapshot || $command == restore ) && $word != -* ]]; then
            mapfile -t COMPREPLY < <(compgen -d -- "$word")
        elif [[ $command == disk && $word != -* ]]; then
            _futago_disk "$word"
        elif [[ $word == -* || $command == run || $command == standby || $command == check || $command == receive ]]; then
            mapfile -t COMPREPLY < <(compgen -W "$(_futago_options "$command")" -- "$word")
        else
            mapfile -t COMPREPLY < <(compgen -W "$(_futago_vms)" -- "$word")
        fi ;;
    esac
}

complete -F _futago futago
