def render(manifest):
    return "<html></html>"
