# The profile of a login shell may put a directory before ours after it has read this, as Debian's does with ~/.local/bin: once
# more, at the first prompt.
if [[ $- == *i* ]] && shopt -q login_shell; then
	_bkt_at_prompt() {
		_bkt_path
		_bkt_at_prompt() { :; }
		PROMPT_COMMAND=${PROMPT_COMMAND/#_bkt_at_prompt;/}
	}
	PROMPT_COMMAND="_bkt_at_prompt;${PROMPT_COMMAND-}"
else
	unset -f _bkt_path _bkt_first
fi
if [[ $- == *i* && -n $_bkt_shims ]]; then
	_bkt_add() {
		local name
		for name in "$_bkt_shims"/*; do
			[[ ! -L $name ]] || complete -F _bkt_complete -- "${name##*/}"
		done
	}
	_bkt_add
	unset -f _bkt_add

	# For shims that are made later: bash asks here about commands that it knows no completion of.
	_bkt_unknown() {
		if [[ -L $_bkt_shims/${1##*/} ]]; then
			complete -F _bkt_complete -- "$1"
			return 124
		fi
		[[ -z ${_bkt_otherwise-} ]] || "$_bkt_otherwise" "$@"
	}
	if [[ $(complete -p -D 2>/dev/null) =~ \ -F\ ([^ ]+) ]]; then
		[[ ${BASH_REMATCH[1]} == _bkt_unknown ]] || _bkt_otherwise=${BASH_REMATCH[1]}
		complete -D -F _bkt_unknown
	else
		complete -D -o bashdefault -o default -F _bkt_unknown
	fi
fi
