#!/usr/bin/env bash
# The tests, on the real binary; DFS names it (./dfs).
#
#   ./test.sh [NAME...]     run all, or some     --list    their names         -j N     so many at once (2)
#   ./test.sh --demo        a cluster at work    --long    more rounds, larger --seed N repeat a run's random choices
#
# A test is a function test_NAME below its one-line description. It runs in a folder of its own, stops at the first
# command that fails, and ends well only if every server that it left running ends well on SIGTERM and no sanitizer
# said a word. `skip WHY` ends it early. Waiting is polling with a deadline (wait_for), longer under sanitizers.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
self=$here/$(basename "$0")
DFS=$(realpath "${DFS:-$here/dfs}")
work='' seed=$((RANDOM * 32768 + RANDOM)) long='' jobs=2 slow=1 names=()
declare -A PID=() ADDR=()

# ---- Helpers ----

die() { echo "$*" >&2; exit 1; }
skip() { echo "$*" >"$work/$name.skip"; exit 77; }
not() { if "$@"; then echo "should have failed: $*" >&2; return 1; fi; }
need() { local tool; for tool; do command -v "$tool" >/dev/null || skip "no $tool"; done; }
plain() { [ "$slow" = 1 ] || skip "says nothing about a binary with sanitizers"; }
wait_for() { # [-t SECONDS] COMMAND...: until it succeeds
    local limit=60 end
    [ "$1" = -t ] && { limit=$2; shift 2; }
    end=$((SECONDS + limit * slow))
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || { echo "waited $limit s in vain for: $*" >&2; return 1; }
        sleep 0.03
    done
}
dfs() { timeout $((90 * slow)) "$DFS" "$@" 2>>client.err; }
fails() { # CODE ARGS...: dfs fails with this exit code and says what, why, and what to do
    local want=$1 got=0
    shift
    timeout $((90 * slow)) "$DFS" "$@" >fails.out 2>fails.text || got=$?
    cat fails.text >>client.err
    [ "$got" = "$want" ] || die "exit code $got, not $want: dfs $(printf '%q ' "$@" | head -c 300)"
    grep -q '^dfs: .' fails.text || die "exit code $got without a word: dfs $*"
}
random() { head -c "$1" /dev/urandom; }
sha() { sha256sum | cut -d' ' -f1; }
rss_kb() { awk '/^VmRSS/ {print $2}' "/proc/$1/status"; }
files_open() { find "/proc/$1/fd" -mindepth 1 2>/dev/null | wc -l; }
pause() { # MILLISECONDS: a random time up to this; when, not whether
    local ms=$((RANDOM % $1))
    sleep "$((ms / 1000)).$(printf %03d $((ms % 1000)))"
}

# ---- Servers ----

serving() { grep -q '^listening ' "$1.out" || ! kill -0 "${PID[$1]}"; }
start() { # NAME ARGS...: a server; its output in NAME.out and NAME.err
    local who=$1
    shift
    rm -f "$who.out"
    "$DFS" "$@" >"$who.out" 2>>"$who.err" &
    PID[$who]=$!
    wait_for serving "$who"
    ADDR[$who]=$(awk '/^listening / {print $2}' "$who.out")
    [ -n "${ADDR[$who]}" ] || { wait "${PID[$who]}"; local code=$?; unset "PID[$who]"; return "$code"; }
}
node() { start "$1" node "$PWD/$1" -n "$1" -l 127.0.0.1:0 "${@:2}"; }
master() { start "${1:-m}" master -l "${2:-127.0.0.1:0}" "${@:3}"; }
crash() { # NAME...: kill -9, all at once
    local who list=()
    for who; do list+=("${PID[$who]}"); done
    kill -9 "${list[@]}"
    for who; do wait "${PID[$who]}" 2>/dev/null || true; unset "PID[$who]"; done
}
stop() { # NAME...: SIGTERM; each must end with exit code 0
    local who code
    for who; do kill "${PID[$who]}"; done
    for who; do
        wait_for ended "$who" || { kill -9 "${PID[$who]}"; die "$who does not stop"; }
        code=0
        wait "${PID[$who]}" || code=$?
        unset "PID[$who]"
        [ "$code" = 0 ] || die "$who ended with exit code $code"
    done
}
ended() { ! kill -0 "${PID[$1]}" || grep -q '^State:.Z' "/proc/${PID[$1]}/status"; }
cluster() { # N [MASTER-ARGS...]: a new cluster with a key and N nodes, all in its roster
    local n
    export DFS_KEY_FILE=$PWD/key
    master m 127.0.0.1:0 --init "${@:2}"
    export DFS_MASTER=${ADDR[m]}
    for n in $(seq "$1"); do node "n$n"; done
    wait_for is_up "$1"
    wait_for state healthy
    wait_for current
}
current() { dfs --status | grep -q '^reads *current'; }
fast() { export DFS_PING=50ms DFS_DEAD_AFTER=500ms; [ "$slow" = 1 ] || export DFS_PING=200ms DFS_DEAD_AFTER=3s; }
state_now() { dfs --status | awk '$1 == "state" {print $2}'; }
state() { [ "$(state_now)" = "$1" ]; }
is_up() { [ "$(dfs --nodes | grep -c ' up ')" = "$1" ]; }
node_is() { dfs --nodes | awk -v n="$1" '$1 == n {print $2}' | grep -qx "$2"; }
held_by() { # PATH NODE...: every chunk of PATH is on all these nodes
    local path=$1 text who
    shift
    text=$(dfs --stat "$path" | sed -n 's/^ *[0-9]* *[0-9a-f]*\.\.\. *[0-9]* *//p')
    for who; do [ -z "$text" ] || not grep -qvw "$who" <<<"$text" || return 1; done
}
same() { # PATH LOCAL: the file downloads and is equal
    dfs -q -d "$1" same.got && cmp "$2" same.got && rm same.got
}
digest() { python3 "$here/.ci/wire.py" digest "$1"; }

# ---- Tests ----

# the headers of vendor/ pass their own tests
test_vendor() {
    local row header flag
    for row in sha256:SHA256_TEST json:JSON_TEST; do
        header=${row%:*} flag=${row#*:}
        gcc -std=c11 -Wall -Wextra -Werror -O1 -x c "-D$flag" "$here/vendor/$header.h" -o "$header" -pthread
        timeout 120 "./$header" | tee "$header.out" | tail -n 1
        tail -n 1 "$header.out" | grep -q '^[1-9][0-9]* passed, 0 failed'
    done
}

# a copy of the tree with only gcc and make: one static binary, no warning; clang too
test_build() {
    local tool
    plain
    mkdir bin tree
    for tool in gcc make as ld; do ln -s "$(command -v "$tool")" bin/; done
    for tool in sh mktemp rm echo grep mkdir ls; do ln -s "$(command -v "$tool")" bin/; done
    cp -r "$here"/{Makefile,dfs.c,vendor} tree/
    env -i "PATH=$PWD/bin" make -C tree >make.log 2>&1
    not grep -iE 'warning|error' make.log
    ldd tree/dfs 2>&1 | grep -qE 'not a dynamic executable|statically linked'
    readelf -lW tree/dfs >readelf.out
    not grep INTERP readelf.out
    tree/dfs --version | grep '^dfs '
    command -v clang >/dev/null || return 0
    make -C tree -B CC=clang CFLAGS='-O1 -Werror' >make.log 2>&1
    not grep -iE 'warning|error:' make.log
    tree/dfs --version
}

# ./test.sh --demo, as `make demo` runs it
test_demo() {
    "$self" --demo >demo.out 2>demo.err
    grep -q 'the copy is equal' demo.out
    grep -q '^sha256 ' demo.out
    [ "$(grep -c '^n[123] .* up ' demo.out)" = 3 ]
}

# files of all sizes up and down; --stat shows the SHA-256 and all nodes; pipes
test_sizes() {
    local size chunk=4194304
    cluster 3
    for size in 0 1 2 4095 4096 65536 65537 $((chunk - 1)) $chunk $((chunk + 1)) $((2 * chunk)) 30000000; do
        random "$size" >f
        dfs -q -u "/a b/$size" f
        same "/a b/$size" f
        wait_for held_by "/a b/$size" n1 n2 n3
        dfs --stat "/a b/$size" >stat
        grep -qx "sha256  $(sha <f)" stat
        grep -qE "^size    $size " stat
        grep -qx "chunks  $(((size + chunk - 1) / chunk))" stat
    done
    dfs -q -u /pipe - <f
    dfs -q -d /pipe - | cmp - f
    head -c 30000000 f | dfs -q -u /pipe2 - --chunk-size 64K
    dfs -q -d /pipe2 - | cat | cmp - f
    dfs -q -u /empty - </dev/null
    [ "$(dfs -q -d /empty - | wc -c)" = 0 ]
    dfs -q -d /pipe - | head -c 100000 | cmp - <(head -c 100000 f) || true # the reader goes away
    wait_for state healthy
}

# 1 GiB of random bytes, and 5 GiB of a sparse file
test_large() {
    local size=$((1024 << 20)) sparse=5 room
    [ "$slow" = 1 ] || size=$((64 << 20)) sparse=1
    room=$(df --output=avail -B1 . | tail -n 1)
    [ "$room" -gt $((size * 6)) ] || { size=$((room / 6 / 4096 * 4096)); echo "only $size bytes: the disk is small"; }
    cluster 3
    random "$size" >f
    dfs -q -u /large f
    dfs -q -d /large - | cmp - f
    wait_for held_by /large n1 n2 n3
    dfs --stat /large | grep -qx "sha256  $(sha <f)"
    rm f
    dfs --rm /large
    truncate -s "${sparse}G" f
    printf middle | dd of=f bs=1 seek=3000000000 conv=notrunc status=none
    truncate -s "${sparse}G" f
    dfs -q -u /sparse f
    dfs --stat /sparse >stat
    grep -qE "^size    $((sparse << 30)) " stat
    wait_for held_by /sparse n1 n2 n3
    dfs -q -d /sparse - | cmp - f
    grep -qx "sha256  $(sha <f)" stat
}

# names of every kind, and those that are refused
test_names() {
    local long_name long_path name label=$'a name\nwith % and \t tab|caf\xc3\xa9|\xff\xfe not UTF-8|%41|-x|~|a*b?|\\|"quoted"|\x01\x7f'
    cluster 2
    random 1000 >f
    long_name=$(printf '%0255d' 7)
    long_path=$(for _ in $(seq 16); do printf '/%0255d' 7; done)
    IFS='|' read -r -d '' -a list <<<"$label|$long_name" || true
    list[-1]=${list[-1]%$'\n'}
    for name in "${list[@]}"; do
        random 500 >f
        dfs -q -u "/n/$name" f
        same "/n/$name" f
        dfs --stat "/n/$name" | grep -qx "sha256  $(sha <f)"
    done
    [ "$(dfs --ls /n | wc -l)" = "${#list[@]}" ]
    [ "$(dfs -v /n | wc -l)" = $((${#list[@]} + 2)) ]
    dfs -q -u "$long_path" f
    same "$long_path" f
    dfs --mkdir "/caf"$'\xc3\xa9'"/%2f"
    dfs --ls "/caf"$'\xc3\xa9' | grep -q '%252f/$'
    fails 6 -u "/n/${long_name}8" f
    fails 6 -u "$(printf '/%0255d' {1..15})/a/$(printf %0254d 7)" f
    fails 6 -u "$long_path/x" f
    for name in '' /.. /../x /n/../x /n/. . .. ./x /n/./y; do
        fails 6 -u "$name" f
        fails 6 -d "$name" got
        fails 6 --stat "$name"
        fails 6 --rm "$name"
        fails 6 --mkdir "$name"
        fails 6 --ls "$name"
    done
    [ "$(dfs --ls /n | wc -l)" = "${#list[@]}" ]
    for name in "${list[@]}"; do dfs --rm "/n/$name"; done
    dfs --rm /n
    wait_for state healthy
}

# folders: made, listed, removed; what is refused, with its exit code
test_folders() {
    cluster 2
    random 100 >f
    dfs --mkdir /d/e/f /g
    fails 3 --mkdir /d/e
    dfs -q -u /d/e/x f
    dfs -q -u d/e/y f
    dfs -q -u /up/ f
    same /up/f f
    dfs --ls /d/e >ls.out
    [ "$(awk '{print $NF}' ls.out | tr '\n' ' ')" = "f/ x y " ]
    dfs --ls | grep -q ' g/$'
    dfs -v | grep -q 'e/$'
    mkdir into
    dfs -q -d /d/e/x into
    cmp f into/x
    fails 8 --rm /d
    fails 3 --mkdir /d/e/x
    fails 9 -u /d f
    fails 9 -u /d/e/x/z f
    fails 9 -d /d got
    fails 9 -u /x /
    fails 2 -d /none got
    fails 2 --stat /none
    fails 2 --ls /none
    fails 2 --rm /none
    fails 2 --rm /d/none/x
    fails 2 -u /z nothing-here
    dfs --rm /d/e/x /d/e/y /d/e/f /d/e /d /g
    fails 2 --stat /d
    [ "$(dfs --ls / | wc -l)" = 1 ]
    [ ! -e got ]
}

counted() { [ "$(dfs --nodes | awk -v n="$1" '$5 == n' | wc -l)" = 3 ]; } # all nodes say that they have N files
demo() {
    name=demo
    mkdir "$work/demo"
    cd "$work/demo" || exit 1
    trap 'for p in "${PID[@]}"; do kill -9 "$p" 2>/dev/null; done; rm -rf "$work"' EXIT
    set -eE
    export DFS_PING=100ms DFS_DEAD_AFTER=1s
    local n
    run() { echo "\$ dfs $*"; "$DFS" "$@"; }
    echo "A master and three nodes:"
    cluster 3
    run -u /demo/dfs "$DFS"
    for n in README.md Makefile dfs.c test.sh vendor/json.h vendor/sha256.h; do run -q -u "/demo/$n" "$here/$n"; done
    run -d /demo/dfs copy
    cmp copy "$DFS"
    run -q -d /demo/dfs.c copy.c
    cmp copy.c "$here/dfs.c"
    echo "the copy is equal"
    wait_for state healthy
    wait_for counted 7
    run -v /demo
    run --stat /demo/dfs
    run --nodes
    stop "${!PID[@]}"
    echo "all ended"
}

# ---- The runner ----

one() ( # NAME: runs a test; its verdict is the exit code: 0, 1, or 77 for skipped
    name=$1
    mkdir -p "$work/$name"
    cd "$work/$name" || exit 1
    exec >"$work/$name.log" 2>&1
    trap 'for p in "${PID[@]}"; do kill -9 "$p" 2>/dev/null; done' EXIT
    trap 'echo "test.sh:$LINENO: exit code $?: $BASH_COMMAND" >&2' ERR
    export HOME=$PWD
    RANDOM=$((seed % 32768))
    set -eE
    "test_$name"
    [ ${#PID[@]} = 0 ] || stop "${!PID[@]}"
    if grep -rlE 'Sanitizer|runtime error:|Assertion .* failed|stack smashing' --include='*.err' . >&2; then die "see above"; fi
)
report() { # NAME CODE SECONDS
    local file
    case $2 in
    0) passed=$((passed + 1)); echo "ok   $1 ($3 s)" ;;
    77) skipped=$((skipped + 1)); echo "skip $1: $(cat "$work/$1.skip")" ;;
    *)
        failed=$((failed + 1))
        echo "FAIL $1 ($3 s)"
        for file in "$work/$1.log" "$work/$1"/*.err; do
            [ -s "$file" ] && echo "---- ${file##*/}" && { grep -m 1 -A 20 -E 'Sanitizer|runtime error:' "$file" || tail -n 8 "$file"; }
        done
        ;;
    esac
    [ -n "${KEEP:-}" ] || rm -rf "${work:?}/$1"
}
stray() { # processes that a test left behind
    local p
    for p in /proc/[0-9]*; do [[ $(readlink "$p/cwd" 2>/dev/null) != "$work"/* ]] || echo "${p#/proc/}"; done
}

mapfile -t all < <(sed -n 's/^test_\([a-z_0-9]*\)() .*/\1/p' "$self")
demo_only=''
while [ $# -gt 0 ]; do
    case $1 in
    --list) sed -n '/^# ./{h;d}; /^test_[a-z_0-9]*() /{s/^test_\([a-z_0-9]*\).*/\1/; G; s/\n# /\t/; p}' "$self" | expand -t 18; exit ;;
    --long) long=1 ;;
    --demo) demo_only=1 ;;
    --seed) seed=$2; shift ;;
    -j) jobs=$2; shift ;;
    -*) die "unknown option $1; see the head of $self" ;;
    *) [[ " ${all[*]} " == *" $1 "* ]] || die "no test $1; --list lists them"; names+=("$1") ;;
    esac
    shift
done
[ -x "$DFS" ] || die "no binary $DFS: run make"
for v in $(compgen -v DFS_); do unset "$v"; done
work=$(mktemp -d)
if grep -qaE '__(asan|tsan)_init' "$DFS"; then slow=5; fi
export ASAN_OPTIONS=exitcode=99 UBSAN_OPTIONS=print_stacktrace=1 TSAN_OPTIONS=exitcode=66
unset XDG_CONFIG_HOME
if [ -n "$demo_only" ]; then demo; exit; fi
trap 'rm -rf "$work"' EXIT
[ ${#names[@]} -gt 0 ] || names=("${all[@]}")
passed=0 failed=0 skipped=0
declare -A running=() begun=()
collect() { # waits for one test to end
    local pid code=0
    wait -n -p pid "${!running[@]}" || code=$?
    report "${running[$pid]}" "$code" "$((SECONDS - begun[$pid]))"
    unset "running[$pid]"
}
echo "seed $seed, $DFS"
for name in "${names[@]}"; do
    while [ ${#running[@]} -ge "$jobs" ]; do collect; done
    one "$name" &
    running[$!]=$name begun[$!]=$SECONDS
done
while [ ${#running[@]} -gt 0 ]; do collect; done
left=$(stray)
[ -z "$left" ] || { echo "FAIL processes left behind:" "$left"; failed=$((failed + 1)); stray | xargs kill -9; }
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
