#!/usr/bin/env bash
# Tests on the real binary: ./test.sh [NAME...]; --demo shows a cluster at work. DFS names the binary to test.
set -u
here=$(cd "$(dirname "$0")" && pwd)
DFS=$(realpath "${DFS:-$here/dfs}")
work=$(mktemp -d)
pids=()
passed=0 failed=0 skipped=0
cleanup() {
    for p in "${pids[@]}"; do kill -9 "$p" 2>/dev/null; done
    rm -rf "$work"
}
trap cleanup EXIT
until_true() { for _ in $(seq 400); do "$@" >/dev/null 2>&1 && return 0; sleep 0.05; done; return 1; }
has_port() { grep -q '^listening' "$1.out"; }
serve() { # NAME ARGS...: starts a server, sets PID and ADDR
    local name=$1
    shift
    rm -f "$name.out"
    "$DFS" "$@" >"$name.out" 2>>"$name.err" &
    PID=$!
    pids+=("$PID")
    until_true has_port "$name" && ADDR=$(awk '{print $2}' "$name.out")
}
fast=(--insecure --ping 100ms --dead-after 1s)
healthy() { "$DFS" --status | grep -q '^state *healthy'; }
cluster() {
    export DFS_INSECURE=1
    serve master master --init "${fast[@]}" -l 127.0.0.1:0 || return 1
    master=$PID
    export DFS_MASTER=$ADDR
    for n in 1 2 3; do
        serve "n$n" node "n$n" "${fast[@]}" -m "$DFS_MASTER" -l 127.0.0.1:0 -n "n$n" || return 1
        eval "node$n=$PID"
    done
    up3() { [ "$("$DFS" --nodes | grep -c ' up ')" = 3 ]; }
    until_true up3
}
test_vendor() {
    for h in sha256:SHA256 json:JSON; do
        gcc -O1 -x c "-D${h#*:}_TEST" "$here/vendor/${h%:*}.h" -o "vendor_${h%:*}" -pthread || return 1
        "./vendor_${h%:*}" | tail -1 | grep -q ' 0 failed' || return 1
    done
}
test_round_trip() {
    cluster || return 1
    for size in 0 1 4194303 4194304 4194305 30000000; do
        head -c "$size" /dev/urandom >f
        "$DFS" -q -u "/a b/f$size" f && "$DFS" -q -d "/a b/f$size" g && cmp f g || return 1
        "$DFS" --stat "/a b/f$size" | grep -q "$(sha256sum f | cut -d' ' -f1)" || return 1
        rm -f g
    done
    "$DFS" -q -u /pipe - <f && "$DFS" -q -d /pipe - | cmp - f || return 1
    until_true healthy
}
test_errors() {
    cluster || return 1
    "$DFS" -d /none x 2>/dev/null; [ $? = 2 ] || return 1
    "$DFS" -u /../x "$DFS" 2>/dev/null; [ $? = 6 ] || return 1
    "$DFS" --mkdir /d && "$DFS" --mkdir /d/e || return 1
    "$DFS" --rm /d 2>/dev/null; [ $? = 8 ] || return 1
    "$DFS" -m 127.0.0.1:1 --status 2>/dev/null; [ $? = 1 ]
}
test_node_killed() {
    cluster || return 1
    head -c 9000000 /dev/urandom >f
    "$DFS" -q -u /f f || return 1
    kill -9 "$node1"
    "$DFS" -q -u /g f && "$DFS" -q -d /f g1 && cmp f g1 || return 1
    down() { "$DFS" --nodes | grep n1 | grep -q down; }
    until_true down || return 1
    serve n1 node n1 "${fast[@]}" -m "$DFS_MASTER" -l 127.0.0.1:0 -n n1 || return 1
    until_true healthy
}
test_all_killed() {
    cluster || return 1
    head -c 9000000 /dev/urandom >f
    "$DFS" -q -u /f f || return 1
    kill -9 "$node3" "$master" "$node1" "$node2"
    wait "$node3" "$master" "$node1" "$node2" 2>/dev/null # the port is free when the process is gone
    serve master master "${fast[@]}" -l "$DFS_MASTER" || return 1
    for n in 2 3 1; do serve "n$n" node "n$n" "${fast[@]}" -m "$DFS_MASTER" -l 127.0.0.1:0 || return 1; done
    until_true healthy && "$DFS" -q -d /f g && cmp f g
}
demo() {
    cd "$work" && cluster || exit 1
    run() { echo "\$ dfs $*"; "$DFS" "$@" || exit 1; }
    run -u /demo/dfs "$DFS"
    for f in README.md Makefile dfs.c; do run -u "/demo/$f" "$here/$f"; done
    run -d /demo/dfs copy
    cmp copy "$DFS" && echo "the copy is equal"
    until_true healthy
    run --stat /demo/dfs
    run --nodes
}
if [ "${1:-}" = --demo ]; then demo; exit; fi
names=("$@")
[ $# -gt 0 ] || mapfile -t names < <(declare -F | sed -n 's/^declare -f test_//p')
for name in "${names[@]}"; do
    mkdir -p "$work/$name"
    if (cd "$work/$name" && trap 'for p in "${pids[@]}"; do kill -9 "$p" 2>/dev/null; done' EXIT; pids=(); "test_$name") >"$work/log" 2>&1 &&
        ! grep -rqE 'Sanitizer|runtime error:' "$work/$name" --include='*.err'; then
        passed=$((passed + 1)); echo "ok   $name"
    else
        failed=$((failed + 1)); echo "FAIL $name"; tail -n 6 "$work/log" "$work/$name"/*.err 2>/dev/null
    fi
done
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
