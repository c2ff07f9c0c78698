# SPDX-License-Identifier: GPL-2.0-or-later
# Running the tests and adding up what they say. Read by ./dev.

# Every suite leaves JUnit files in build/results; tools/test_counts.py adds them up.
RESULTS=$BUILD/results

# However much hangs, a run ends after about this time: each suite gets what is left of it, and a little in any case.
RUN_MAX_S=3000
LONG_RUN_MAX_S=21600
SUITE_MIN_S=120
MESON_PATIENCE=2 # with a busy machine: times the time-outs in meson.build

seconds_left() {
    local left=$((RUN_MAX_S - SECONDS))
    echo $((left > SUITE_MIN_S ? left : SUITE_MIN_S))
}

# expect_results NAME: a suite that leaves no NAME.junit.xml counts as a failure.
expect_results() {
    echo "$1" >>"$RESULTS/expected"
}

# meson_suite FOLDER LABEL SUITE: one suite of the programs that run without QEMU.
meson_suite() {
    local folder=$1 label=$2 suite=$3 log=$1/meson-logs/$2-$3
    say "$suite ($label)"
    expect_results "$label-$suite"
    rm -f "$log".*
    # A failure is counted from the log, so that the suites after it still run.
    timeout --kill-after=30 "$(seconds_left)" \
        meson test -C "$folder" --no-rebuild --print-errorlogs --timeout-multiplier "$MESON_PATIENCE" --logbase "$label-$suite" --suite "$suite" || true
    cp "$log.json" "$log.junit.xml" "$RESULTS/" 2>/dev/null || true
}

plain_suites() {
    local suite
    for suite in "$@"; do
        meson_suite "$BUILD" plain "$suite"
    done
}

sanitized_suites() {
    local suite
    build_sanitized
    # An allocation that cannot be is answered as without the sanitizer: tests of such answers need it.
    export ASAN_OPTIONS=detect_leaks=1:abort_on_error=1:allocator_may_return_null=1
    export UBSAN_OPTIONS=halt_on_error=1:print_stacktrace=1
    for suite in "$@"; do
        meson_suite "$BUILD/asan" sanitized "$suite"
    done
}

lint_suite() {
    say "lint"
    expect_results lint
    expect_results lint-selftest
    /usr/bin/python3 -B tests/lint/lint.py --junit "$RESULTS/lint.junit.xml" || true
    /usr/bin/python3 -B tests/lint/lint_selftest.py --junit "$RESULTS/lint-selftest.junit.xml" || true
}

# pytest_suite NAME WORD...: tools/run_integration.py with these words; its results go by that name.
pytest_suite() {
    local name=$1
    say "$name"
    expect_results "$name"
    "${NAMESPACES[@]}" /usr/bin/python3 -B tools/run_integration.py "$RESULTS" "$name" --within "$(seconds_left)" "${@:2}" ||
        [ $? -eq 1 ] || expect_results "$name-to-its-end"
}

check_test_names() {
    local test
    for test in "$@"; do
        [ -e "tests/integration/test_$test.py" ] || wrong_use "there is no tests/integration/test_$test.py"
    done
}

# check_kvm_words [--native] [all] [TEST...]
check_kvm_words() {
    while [ "${1-}" = --native ] || [ "${1-}" = all ]; do
        shift
    done
    check_test_names "$@"
}

# integration_suite NAME MARKERS [TEST...]: those tests whose markers fit, of all files or of the named ones.
integration_suite() {
    local test files=()
    for test in "${@:3}"; do
        files+=("tests/integration/test_$test.py")
    done
    [ ${#files[@]} -gt 0 ] || files=(tests/integration/test_*.py)
    setup_tests
    pytest_suite "$1" -m "$2" "${files[@]}"
}

# What kvm_suite runs without names.
KVM_TESTS=(test_kvm.py test_kvm_probes.py
    test_kill_primary.py::test_kill_primary\[{microvm,microvm-two-vcpus,q35}\])

# kvm_suite [--native] [all] [TEST...]: integration tests where there is KVM: on this machine, or in one that QEMU emulates. "all"
# adds what is marked long. Guests that a test does not run under an accelerator of its choice are under KVM.
kvm_suite() {
    local native='' markers="not long" tests=("${KVM_TESTS[@]}")
    while :; do
        case ${1-} in
        --native) native=yes ;;
        all) markers="long or not long" ;;
        *) break ;;
        esac
        shift
    done
    if [ $# -gt 0 ]; then
        tests=("${@/%/.py}")
        tests=("${tests[@]/#/test_}")
    fi
    tests=("${tests[@]/#/tests/integration/}")
    setup_tests
    if [ -n "$native" ]; then
        [ -r /dev/kvm ] && [ -w /dev/kvm ] || die "there is no /dev/kvm that can be used here: leave --native out"
        FUTAGO_ACCEL=kvm,dirty-ring-size=65536 pytest_suite kvm -m "$markers" "${tests[@]}"
        return
    fi
    say "kvm"
    expect_results kvm
    /usr/bin/python3 -B tools/kvm_host.py "$BUILD"/kernel-generic/boot/vmlinuz-* "$KVM_HOST/initrd.img" "$RESULTS" kvm \
        -j 1 --within "$(seconds_left)" -m "$markers" "${tests[@]}" || [ $? -eq 1 ] || expect_results kvm-to-its-end
}

# What takes too long for every day.
long_suite() {
    plain_suites sim-long
    sanitized_suites fuzz-long
    need_debian_guest
    integration_suite integration-long long
    qemu10_suite
}

# run_tests SUITE [TEST...]
run_tests() {
    rm -rf "$RESULTS"
    mkdir -p "$RESULTS"
    case $1 in
    long | qemu10 | kvm) RUN_MAX_S=$LONG_RUN_MAX_S ;;
    esac
    if [ "$1" = lint ]; then
        need_packages
    else
        build_all
    fi
    case $1 in
    lint | all) lint_suite ;;
    esac
    case $1 in
    unit | sim | fuzz) plain_suites "$1" ;;
    all) plain_suites unit sim fuzz ;;
    esac
    case $1 in
    unit | sim | fuzz) sanitized_suites "$1" ;;
    asan | all) sanitized_suites unit sim fuzz ;;
    esac
    case $1 in
    integration | all) integration_suite integration "not long" "${@:2}" ;;
    qemu10) qemu10_suite "${@:2}" ;;
    kvm) kvm_suite "${@:2}" ;;
    long) long_suite ;;
    esac
    /usr/bin/python3 -B tools/test_counts.py "$RESULTS"
}
