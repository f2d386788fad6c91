"""Who may send requests, and how many: plain ASGI layers, which also guard websockets and streams.

asgi         ASGI types, and problem documents as ASGI messages
headers      security headers of every response
token        the bearer token: its file, and the layer that requires it
origins      which Host and Origin headers are accepted
rate         how many requests an address may send
body_limits  how large a request may be, and how long a client may take
shape        how many values a JSON body may hold, and how deeply nested
"""
