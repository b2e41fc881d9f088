#!/usr/bin/env bash
# Chromium for the tests of the HTML page: installed where that is possible without asking (root, apt), else left be;
# those tests are skipped without it.
set -uo pipefail
command -v chromium >/dev/null && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
  (apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium) >/dev/null ||
    echo "chromium could not be installed; the tests of the HTML page will be skipped" >&2
else
  echo "no chromium; the tests of the HTML page will be skipped" >&2
fi
exit 0
