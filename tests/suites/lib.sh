# Shared by the suites: counting, and the closing line that tests/run reads.
passed=0 failed=0

# check NAME COMMAND...: runs the command, shows its output only when it fails.
check() {
  local name=$1 out
  shift
  if out=$("$@" 2>&1); then
    passed=$((passed + 1))
    echo "ok    $name"
  else
    failed=$((failed + 1))
    echo "FAIL  $name"
    printf '%s\n' "$out" | tail -n 60
  fi
}

# count_cargo FILE: adds up the "test result:" lines of cargo test.
count_cargo() {
  local ok bad
  ok=$(sed -n 's/^test result: .* \([0-9]*\) passed; .*/\1/p' "$1" | awk '{n += $1} END {print n + 0}')
  bad=$(sed -n 's/^test result: .* \([0-9]*\) failed; .*/\1/p' "$1" | awk '{n += $1} END {print n + 0}')
  passed=$((passed + ok)) failed=$((failed + bad))
}

closing() {
  echo "$passed passed, $failed failed"
  [ "$failed" -eq 0 ]
}
