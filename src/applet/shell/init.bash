# Puts a directory first in PATH, once. For bash and zsh, where 'path' is another name of PATH.
_bkt_first() {
	local all=":$PATH:"
	while [[ $all == *":$1:"* ]]; do
		all=${all/":$1:"/:}
	done
	export PATH="$1${all%:}"
}
_bkt_path() {
	[[ ":$PATH:" == *":${_bkt_distrobox%/*}:"* ]] || _bkt_first "${_bkt_distrobox%/*}"
	_bkt_first "$_bkt_distrobox"
	[[ -z $_bkt_shims ]] || _bkt_first "$_bkt_shims"
	[[ -z $_bkt_granted ]] || _bkt_first "$_bkt_granted"
}
_bkt_path
if [[ -n $_bkt_shims ]]; then
	# The container's own pages come first; what is only the host's is found behind them.
	case ":${MANPATH-}:" in
	*":$_bkt_pages:"*) ;;
	*) [[ ! -d $_bkt_pages ]] || export MANPATH="${MANPATH-}:$_bkt_pages" ;;
	esac
fi
# The host's page for a shim. The keyword keeps an alias of that name from being read here.
if [[ $- == *i* && -n $_bkt_shims ]] && ! declare -f man >/dev/null && ! alias man >/dev/null 2>&1; then
	function man {
		local word
		for word; do
			if [[ -n $word && -L $_bkt_shims/$word ]]; then
				"$_bkt_program" man "$@"
				return
			fi
		done
		command man "$@"
	}
fi
