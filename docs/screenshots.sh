#!/usr/bin/env bash
# Makes the screenshots of README.md: pages of both demonstrations, light and dark. Needs Chromium
# (Debian: apt-get install chromium), takes about a minute, and writes into docs/images.
#
#   docs/screenshots.sh [FOLDER]     # FOLDER keeps the runs [default: a temporary one]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${1:-$(mktemp -d)}
mkdir -p docs/images

for demo in demo-sentiment demo-ner; do
    [ -f "$runs/$demo/report.html" ] ||
        cargo run -q -p ls-cli -- train --config "$demo" --run "$runs/$demo" --progress off
done

# shot RUN SCHEME NAME [SECTIONS]: 0 is dark, 1 light; with SECTIONS (a list of CSS) only these, as
# a browser without a window does not scroll to them.
shot() {
    local style="${4:+section:not($4), nav { display: none }}"
    sed "s|</style>|$style</style>|" "$runs/$1/report.html" >"$runs/shot.html"
    chromium --headless=new --no-sandbox --disable-gpu --hide-scrollbars \
        --user-data-dir="$runs/profile" --blink-settings="preferredColorScheme=$2" \
        --window-size=1000,720 --screenshot="$PWD/docs/images/$3.png" \
        "file://$(realpath "$runs/shot.html")" 2>/dev/null
}
shot demo-sentiment 1 report-light
shot demo-ner 0 report-dark '[aria-labelledby=errors], [aria-labelledby=faults]'
ls -l docs/images
