"""The server: REST, a page, MCP and a socket in front of one warm :class:`clamr_cli.serve.library.Library`."""
