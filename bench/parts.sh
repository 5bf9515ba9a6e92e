# Parts of a script that are run under limits of time, one after the other or side by side; sourced by gpu.sh.
# It writes $out/NAME.txt for each part, a line for each to $out/summary.txt, and sets $failed. After each part
# $results/results.tar is written anew, so that all is there whenever the machine is taken away.
set -m # parts can be interrupted, and say what they have found; else bash has what runs beside it ignore that
failed=0
names=()
pids=()
: >"$out/summary.txt"

aside() { # aside NAME SECONDS COMMAND...: begins a part
    timeout -s INT -k 10 "${@:2}" >"$out/$1.txt" 2>&1 </dev/null &
    names+=("$1")
    pids+=($!)
}

together() { # waits for all that has begun, and says how each ended
    local i name code
    for i in "${!names[@]}"; do
        name=${names[i]}
        wait "${pids[i]}"
        code=$?
        case $code in
            0) say "$name: passed" ;;
            124 | 137) say "$name: FAILED, out of time" ;;
            *) say "$name: FAILED ($code)" ;;
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
