#!/usr/bin/env bash
# Fetches the files of the query editor and of the REST documentation again from their packages, by name, and checks them
# against server/assets/vendor/SHA256SUMS. Needs node with npm; a developer's tool, never run by
# the server. To take newer versions: change them here, run with --update, look at the diff.
set -euo pipefail

PACKAGES=(
  graphiql@3.9.0
  react@18.3.1
  react-dom@18.3.1
  graphql-ws@5.16.2
  swagger-ui-dist@5.35.0
  graphql@16.11.0               # inside the bundle of graphiql; here for its licence
  @babel/runtime@7.27.0 @radix-ui/react-use-escape-keydown@1.1.0  # likewise, no longer in its tree
  @fontsource/roboto@5.2.5      # the fonts inside graphiql.min.css; here for their licences
  @fontsource/fira-code@5.2.5
)

vendor=$(cd "$(dirname "$0")/../server/assets/vendor" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

cd "$work"
echo '{"private": true}' >package.json
npm install --ignore-scripts --no-audit --no-fund --silent "${PACKAGES[@]}" </dev/null

cp node_modules/graphiql/graphiql.min.{js,css} "$vendor"
cp node_modules/react/umd/react.production.min.js "$vendor"
cp node_modules/react-dom/umd/react-dom.production.min.js "$vendor"
cp node_modules/graphql-ws/umd/graphql-ws.min.js "$vendor"
cp node_modules/swagger-ui-dist/swagger-ui-bundle.js "$vendor"
cp node_modules/swagger-ui-dist/swagger-ui.css "$vendor"

# The bundle's source map names every package that went into it; each gives its licence text.
cat >licences.js <<'SCRIPT'
const fs = require('fs');
const path = require('path');
const ours = { 'graphiql-react': '@graphiql/react', 'graphiql-toolkit': '@graphiql/toolkit' };
const map = JSON.parse(fs.readFileSync('node_modules/graphiql/graphiql.min.js.map', 'utf8'));
const names = new Set(['graphiql', 'react', 'react-dom', 'graphql-ws', 'swagger-ui-dist',
  '@fontsource/roboto', '@fontsource/fira-code']);
for (const source of map.sources) {
  const at = source.lastIndexOf('node_modules/');
  const parts = (at < 0 ? source.replace(/^(\.\.\/)+/, '') : source.slice(at + 13)).split('/');
  const name = at < 0 ? (ours[parts[0]] ?? parts[0])
    : parts.slice(0, parts[0].startsWith('@') ? 2 : 1).join('/');
  if (name !== 'src') names.add(name);
}
const sections = [];
for (const name of [...names].sort()) {
  const folder = path.join('node_modules', name);
  let licence = 'MIT (as its authors declare; not found among the packages)';
  let text = '';
  if (fs.existsSync(folder)) {
    licence = JSON.parse(fs.readFileSync(path.join(folder, 'package.json'))).license;
    const file = fs.readdirSync(folder).find((entry) => /^licen[sc]e/i.test(entry));
    text = file ? fs.readFileSync(path.join(folder, file), 'utf8') : '';
  }
  sections.push(`${name}\nLicence: ${licence}\n\n${text.replace(/\r/g, '').trim()}`.trim());
}
const swagger = 'node_modules/swagger-ui-dist';
for (const file of ['NOTICE', 'swagger-ui-bundle.js.LICENSE.txt']) {
  const text = fs.readFileSync(path.join(swagger, file), 'utf8').trim();
  sections.push(`swagger-ui-dist: ${file}\n\n${text}`);
}
const rule = `\n\n${'-'.repeat(80)}\n\n`;
process.stdout.write(`Licences of what is in this folder\n${rule.slice(1)}${sections.join(rule)}\n`);
SCRIPT
node licences.js >"$vendor/LICENSES.txt"

cd "$vendor"
if [ "${1:-}" = --update ]; then
  sha256sum ./*.js ./*.css | sed 's# \./# #' >SHA256SUMS
fi
sha256sum --check --strict SHA256SUMS
