# What the two scripts share: name the step that begins; the runner reads the lines.
# shellcheck shell=bash
_step_name=
_step_begin=0

step() {
  local now
  now=$(date +%s.%N)
  [ -z "$_step_name" ] || printf 'STEP\t%s\t%s\n' "$_step_name" "$(python3 -c "print(round($now - $_step_begin, 1))")"
  _step_name=${1:-}
  _step_begin=$now
}
