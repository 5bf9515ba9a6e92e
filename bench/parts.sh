# Parts of a script that are run under limits of time, one after the other or side by side; sourced by gpu.sh.
# It writes $out/NAME.txt for each part, a line for each to $out/summary.txt, and sets $failed.
failed=0
names=()
: >"$out/summary.txt"

aside() { # aside NAME SECONDS COMMAND...: begins a part; its code goes to NAME.code
    local name=$1 limit=$2
    shift 2
    names+=("$name")
    rm -f "$out/$name.code"
    (
        timeout -k 5 "$limit" "$@" >"$out/$name.txt" 2>&1
        echo $? >"$out/$name.code"
    ) </dev/null &
}

together() { # waits for all that has begun, and says how each ended
    local name code
    wait
    for name in "${names[@]}"; do
        code=$(cat "$out/$name.code")
        rm "$out/$name.code"
        case $code in
            0) say "$name: passed" ;;
            124 | 137) say "$name: FAILED, out of time" ;;
            *) say "$name: FAILED ($code)" ;;
        esac
        [ "$code" = 0 ] || failed=1
        tail -n 3 "$out/$name.txt" | sed 's/^/    /'
    done
    names=()
}

part() { # part NAME SECONDS COMMAND...: one alone
    aside "$@"
    together
}

skip() { # skip NAME WHY
    say "$1: skipped, $2"
}

say() {
    echo "$1" | tee -a "$out/summary.txt"
}
