"""Who may ask, and how much: plain ASGI layers that also guard websockets and streams.

answers   problem documents, as ASGI messages
headers   what stands on every answer
token     the bearer token: where it is kept, and the layer that asks for it
origins   which Host and Origin headers are let in
rate      how often an address may ask
patience  how long and how large a request may be
shape     how many values a request may hold, and how deep
"""
