'use strict';
// Joins the vendored GraphiQL to this server: one token for HTTP and for subscriptions, kept in
// this browser tab only (sessionStorage), never in an address and never in GraphiQL's own store.
(() => {
  const KEY = 'dragoman.token';
  const facts = JSON.parse(document.getElementById('facts').textContent);
  const httpAddress = new URL(facts.graphql, location.href);
  const socketAddress = new URL(httpAddress);
  socketAddress.protocol = location.protocol === 'https:' ? 'wss:' : 'ws:';

  const token = () => sessionStorage.getItem(KEY) ?? '';
  const authorization = () => (token() ? { authorization: `Bearer ${token()}` } : {});

  const socket = graphqlWs.createClient({
    url: socketAddress.href,
    connectionParams: authorization,
  });

  globalThis.__webpack_nonce__ = facts.styleNonce; // for the one style element of the dialogs

  const send = GraphiQL.createFetcher({
    url: httpAddress.href,
    wsClient: socket,
    // A header that the user wrote in the editor wins over the token field.
    fetch: (address, init) => fetch(address, {
      ...init,
      credentials: 'same-origin',
      headers: { ...authorization(), ...lowerCased(init.headers) },
    }),
  });

  // GraphiQL looks at its last parse, which lags behind fast typing and changes of the tab: it
  // would send a subscription as a query, or name the operation of before. So the document is
  // parsed as it is sent.
  function fetcher(params, options) {
    const documentAST = parsed(params.query);
    const operationName = operationOf(documentAST, params.operationName);
    return send({ ...params, operationName }, { ...options, documentAST });
  }

  function operationOf(documentAST, chosen) {
    const names = (documentAST?.definitions ?? [])
      .filter((definition) => definition.kind === 'OperationDefinition')
      .map((definition) => definition.name?.value);
    return names.length === 1 ? names[0] : chosen;
  }

  function parsed(query) {
    try {
      return GraphiQL.GraphQL.parse(query);
    } catch {
      return undefined; // the server tells what is wrong with it
    }
  }

  function lowerCased(headers) {
    return Object.fromEntries(
      Object.entries(headers ?? {}).map(([name, value]) => [name.toLowerCase(), value]),
    );
  }

  const root = ReactDOM.createRoot(document.getElementById('graphiql'));
  let generation = 0;

  function render() {
    generation += 1; // a new key: GraphiQL starts anew and asks for the schema with this token
    root.render(React.createElement(GraphiQL, {
      key: generation,
      fetcher,
      defaultTabs: facts.tabs.length ? facts.tabs : undefined,
      defaultQuery: '# Ctrl-Enter runs, Ctrl-Space completes.\n',
      defaultEditorToolsVisibility: 'variables',
      shouldPersistHeaders: false,
    }));
  }

  const field = document.getElementById('token');
  const state = document.getElementById('token-state');

  function useToken(value) {
    if (value) sessionStorage.setItem(KEY, value);
    else sessionStorage.removeItem(KEY);
    field.value = '';
    state.value = value ? `using ${value.slice(0, 4)}… in this tab` : 'no token: most calls are refused';
    socket.terminate(); // open subscriptions belong to the token of before
    render();
  }

  document.getElementById('token-form').addEventListener('submit', (event) => {
    event.preventDefault();
    const value = field.value.trim().replace(/^bearer\s+/i, '');
    if (value) useToken(value);
  });
  document.getElementById('forget').addEventListener('click', () => useToken(''));
  useToken(token());
})();
