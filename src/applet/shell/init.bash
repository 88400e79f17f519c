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
