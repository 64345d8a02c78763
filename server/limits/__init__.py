"""What keeps the GraphQL front standing: bounds, prices, turns and errors that tell no secrets.

From the socket inwards: `http` (who may ask, in which form), `view` (Strawberry's application),
`schema` and `extension` (Strawberry's steps), `operation` (the gate itself, for any executor),
`document` and `cost` (what it checks), `concurrency`, `errors`. Nothing here knows the domain.
"""
