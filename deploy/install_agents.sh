#!/usr/bin/env bash
# Installs agent programs of known versions into a folder, for the tests with real agents:
#
#   deploy/install_agents.sh FOLDER [claude] [codex] [gemini] [opencode]     (default: claude codex)
#
# Afterwards FOLDER/bin holds them. What is there already is left alone. Needs node with npm and
# 400 MB for each program; no account. DRAGOMAN_TEST_AGENTS=FOLDER tells the tests where they are.
set -euo pipefail

folder=${1:?usage: deploy/install_agents.sh FOLDER [NAME ...]}
shift
[ $# -gt 0 ] || set -- claude codex

mkdir -p "$folder/bin"
cd "$folder"
[ -e package.json ] || echo '{"private": true}' >package.json

answers() { # PROGRAM VERSION: whether it runs and is that version
  "bin/$1" --version 2>/dev/null </dev/null | grep -qF "$2"
}

fetch() { # PACKAGE: registries and networks have bad minutes
  local attempt
  for attempt in 1 2 3; do
    npm install --no-audit --no-fund --silent --fetch-retries=5 "$1" </dev/null && return
    echo "$1 could not be installed (attempt $attempt of 3)" >&2
    sleep $((attempt * 10))
  done
  return 1
}

install_one() { # NAME PACKAGE VERSION
  if answers "$1" "$3"; then
    echo "$1 $3 is there"
    return
  fi
  fetch "$2@$3"
  ln -sfn "../node_modules/.bin/$1" "bin/$1"
  if ! answers "$1" "$3"; then
    # The launcher is a placeholder where npm may not run install scripts; the program itself
    # comes in the package of its platform.
    for program in node_modules/"$2"-*/"$1" node_modules/"$2"-*/bin/"$1"; do
      [ ! -x "$program" ] || ln -sfn "../$program" "bin/$1"
    done
  fi
  answers "$1" "$3" || { echo "$1 $3 does not run" >&2; exit 1; }
  echo "$1 $3 installed"
}

for name in "$@"; do
  case $name in
    claude) install_one claude @anthropic-ai/claude-code 2.1.330 ;;
    codex) install_one codex @openai/codex 0.169.0 ;;
    gemini) install_one gemini @google/gemini-cli 0.61.0 ;;
    opencode) install_one opencode opencode-ai 1.18.33 ;;
    *) echo "$name is not known here" >&2; exit 2 ;;
  esac
done
