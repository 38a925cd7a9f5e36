"""`vendctl watch`: the machine live on a full screen. Only `app` needs Textual."""
