# `step NAME` begins a step, and prints the seconds that the step before it took.
began=0 name=""
step() {
  if [ -n "$name" ]; then printf -- '-- %s: %d s\n' "$name" $((SECONDS - began)); fi
  began=$SECONDS name=$1
  printf '\n== %s (after %d s)\n' "$name" "$SECONDS"
}
