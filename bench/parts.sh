# Parts of a script that are run under limits of time, one after the other or side by side; sourced by gpu.sh.
# It writes $out/NAME.txt for each part, a line for each to $out/summary.txt, and sets $failed. After each part
# $results/results.tar is written anew, so that all is there whenever the machine is taken away. All parts together have
# $budget seconds: what is left of them is the limit of a part that has a longer one.
set -m # parts can be interrupted, and say what they have found; else bash has what runs beside it ignore that
failed=0
grace=10 # seconds until what goes on after an interruption is killed
names=()
pids=()
ends=$((SECONDS + budget - grace))
: >"$out/summary.txt"

aside() { # aside NAME SECONDS COMMAND...: begins a part
    local limit=$((ends - SECONDS))
    if [ "$limit" -le 0 ]; then
        say "$1: left out, no time"
        failed=1
        return
    fi
    [ "$2" -gt "$limit" ] || limit=$2
    # in the foreground: else all in its group are interrupted too, and pytest twice, before it has said what failed
    timeout --foreground -s INT -k "$grace" "$limit" "${@:3}" >"$out/$1.txt" 2>&1 </dev/null &
    names+=("$1")
    pids+=($!)
}

together() { # waits for all that has begun, and says how each ended
    local i name code
    for i in "${!names[@]}"; do
        name=${names[i]}
        wait "${pids[i]}"
        code=$?
        kill -KILL -- "-${pids[i]}" 2>/dev/null # what it has left behind
        case $code in
            0) say "$name: passed, at $SECONDS s" ;;
            124 | 137) say "$name: FAILED, out of time, at $SECONDS s" ;;
            *) say "$name: FAILED ($code), at $SECONDS s" ;;
        esac
        [ "$code" = 0 ] || failed=1
        tail -n 3 "$out/$name.txt" | sed 's/^/    /'
    done
    names=()
    pids=()
    tar -C "$out" -cf "$results/unfinished.tar" . && mv "$results/unfinished.tar" "$results/results.tar"
}

part() { # part NAME SECONDS COMMAND...: one alone
    aside "$@"
    together
}

say() {
    echo "$1" | tee -a "$out/summary.txt"
}
