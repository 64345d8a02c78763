"""The five REST languages of older boards, each a thin translation of the same operations.

From the socket inwards: ``dispatcher`` (which language an address and a credential mean),
``language`` (one request of a language: credential, limits, route, answer, errors), ``routing``
(routes and how their arguments are read), then the package of a language. How one is added is told
in docs/rest.md. Only ``catalog``, ``dispatcher`` and ``house`` are imported when a server starts;
FastAPI and the languages come with the first request for one.
"""
