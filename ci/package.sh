#!/usr/bin/env bash
# Build the wheel and check that it holds every tracked file of the package (data, templates, stubs).
source "$(dirname "${BASH_SOURCE[0]}")/environment.sh"
built=$(mktemp -d)
trap 'rm -rf "$built"' EXIT
python -m pip wheel --quiet --disable-pip-version-check --no-deps --wheel-dir "$built" .
python -m zipfile --list "$built"/bayesdcm-*.whl | awk '{print $1}' | sort > "$built/packed"
git ls-files bayesdcm | sort > "$built/tracked"
missing=$(comm -23 "$built/tracked" "$built/packed")
[ -z "$missing" ] || { printf 'Not in the wheel:\n%s\n' "$missing" >&2; exit 1; }
echo "The wheel holds all $(wc -l < "$built/tracked") files of the package."
