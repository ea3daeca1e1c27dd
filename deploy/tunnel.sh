#!/bin/sh
# Gives the service on this laptop a public HTTPS address, so that Segment reaches it, until Ctrl-C.
#
#   deploy/tunnel.sh                  by Cloudflare's quick tunnels (needs cloudflared, no account)
#   deploy/tunnel.sh you@server       by a server of your own, on which Caddy or nginx leads to 127.0.0.1:8000
#
# In .env set TRUSTED_PROXIES=1 before, so that the log shows who calls. Not for production: the address of a quick tunnel
# changes with each start, and a laptop sleeps.
set -eu
here="http://127.0.0.1:${PORT:-8000}"

if ! curl --fail --silent --show-error --max-time 5 "$here/healthz" > /dev/null; then
	echo "Nothing answers at $here: start the service first, with 'make serve'." >&2
	exit 1
fi
echo "Segment's URL is the public address with /webhooks/segment at its end." >&2
if [ $# -eq 0 ]; then
	exec cloudflared tunnel --no-autoupdate --url "$here"
fi
exec ssh -N -o ExitOnForwardFailure=yes -o ServerAliveInterval=15 -R "127.0.0.1:8000:${here#http://}" "$1"
