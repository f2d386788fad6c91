"""The dashboard: a process of its own that shows browsers what a management server does.

words, fields, history, chart_options, glass   what is shown, without a page
backend      asks the server; holds the token
pulse        what the server is doing, asked once for all pages
settings     what a browser remembers
widgets, form   forms made of the classes of requests
desk, theme, pieces   what the parts of a page share
jobs_strip, charts, run_feed, run_view, *_panel   the parts
page         all of them together
login, downloads, app   served on an address
"""
