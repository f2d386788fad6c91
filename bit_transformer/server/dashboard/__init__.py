"""The dashboard: a separate process that shows a management server in the browser.

app              serves the page and the downloads on an address
login            asks for a password first
policy           content security policy of every response
backend          HTTP client of the management server; keeps the token
poller           polls the server once for all open pages
preferences      choices stored in the browser
formatting       numbers and names as text
fields           fields of a request, read from its JSON schema
form             a form generated from a request class, and its widgets
byte_display     a byte as text and as a path in the bit tree
byte_inspector   generated text, and details of the selected byte
history          metrics of a run, as lines of a chart
chart_options    ECharts options of the charts of a run
run_feed         follows the records of a run
run_details      settings, floors and checkpoints of a run
run_view         one run: numbers, charts, samples and buttons
page_context     state shared by the parts of one page
components       cards, buttons and other small elements
theme            colours and CSS
jobs_bar         active jobs, above every tab
runs_panel       tab "Runs"
train_panel      tab "Train"
ask_panel        tab "Ask": continue a prompt
analysis_panel   tab "Ask": analyse a long sequence; show attention
review_panel     tab "Review"
files_panel      tab "Files"
models_panel     tab "Models"
page             header, banner and tabs
"""
