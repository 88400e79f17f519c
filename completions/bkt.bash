# bash completion of bkt, and of every command that 'bkt shim init bash' gives it: all is asked of bkt.
_bkt_complete() {
	mapfile -d '' -t COMPREPLY < <("${_bkt_program:-bkt}" complete bash "${COMP_LINE:0:COMP_POINT}" "$COMP_WORDBREAKS" </dev/null 2>/dev/null)
	local option
	for option in ${COMPREPLY[0]-}; do
		compopt -o "$option" 2>/dev/null
	done
	COMPREPLY=("${COMPREPLY[@]:1}")
}
complete -F _bkt_complete bkt
