unfunction _bkt_path _bkt_first
if [[ -o interactive ]]; then
	# Asked about every command, before any other completion of it: so a shim that is made later needs no new shell.
	_bkt_shim() {
		[[ -L $_bkt_shims/${words[1]:t} ]] || return 1
		_compskip=all
		_bkt "$@"
	}
	# At the first prompt, whether compinit stands before or behind this in the start-up files.
	_bkt_begin() {
		precmd_functions=(${precmd_functions:#_bkt_begin})
		if (( $+functions[compdef] )); then
			compdef _bkt bkt
			[[ -z $_bkt_shims ]] || compdef -p _bkt_shim '*'
		fi
		unfunction _bkt_begin
	}
	precmd_functions+=(_bkt_begin)
fi
