# Print a line for each path that is there: PATH WHAT MODE OWNER:GROUP. WHAT is a file's SHA-256, a link's target, or the word directory.
for path; do
    if [ -L "$path" ]; then
        what=$(readlink "$path")
    elif [ -d "$path" ]; then
        what=directory
    elif [ -f "$path" ]; then
        what=$(sha256sum < "$path" | cut -c 1-64)
    else
        continue
    fi
    printf '%s %s %s\n' "$path" "$what" "$(stat -c '%a %U:%G' "$path")"
done
