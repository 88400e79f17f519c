# What the host's own completion says about a command line, on descriptor 1: options, then candidates, each ended by NUL.
#
# Given: the shell that asks, the line up to the cursor, its word breaks, the word at the cursor without quotes, how many words bash
# would make of the line, those as they were typed, and then the shell's words without quotes.

shell=$1 COMP_LINE=$2 cur=$4
[[ -z $3 ]] || COMP_WORDBREAKS=$' \t\n"\'><;|&('$3
COMP_WORDS=("${@:6:$5}") words=("${@:6+$5}")
COMP_CWORD=$((${#COMP_WORDS[@]} - 1)) COMP_POINT=${#COMP_LINE} COMP_TYPE=9 COMP_KEY=9
command=${words[0]} options= COMPREPLY=()
# Completions may print what they like, but not into the answer.
exec 3>&1 >/dev/null

# Outside of a real completion bash refuses it; functions call it to say how their candidates are to be taken.
compopt() {
	while (($#)); do
		case $1 in
		-o) options+=" $2" && shift ;;
		+o) options=${options// $2/} && shift ;;
		esac
		shift
	done
}

# Reads how the command is completed; nothing is known about it where that fails.
read_spec() {
	local spec=() i
	function= program= generate=()
	eval "spec=($(complete -p -- "$command" 2>/dev/null))"
	((${#spec[@]} > 1)) || return
	for ((i = 1; i < ${#spec[@]} - 1; i++)); do
		case ${spec[i]} in
		-o) options+=" ${spec[++i]}" ;;
		-F) function=${spec[++i]} ;;
		-C) program=${spec[++i]} ;;
		-[AGWXPS]) generate+=("${spec[i]}" "${spec[++i]}") ;;
		--) ;;
		*) generate+=("${spec[i]}") ;;
		esac
	done
}

from_bash() {
	local directory more=() function program generate previous=
	local IFS=:
	for directory in ${XDG_DATA_DIRS:-/usr/local/share:/usr/share} /usr/share; do
		[[ -r $directory/bash-completion/bash_completion ]] || continue
		IFS=$' \t\n'
		source "$directory/bash-completion/bash_completion"
		break
	done
	IFS=$' \t\n'
	if ! complete -p -- "$command" &>/dev/null; then
		if declare -F _comp_load >/dev/null; then
			_comp_load -- "$command"
		elif declare -F __load_completion >/dev/null; then
			__load_completion "$command"
		fi
	fi
	read_spec || return
	((COMP_CWORD == 0)) || previous=${COMP_WORDS[COMP_CWORD - 1]}
	if [[ -n $function ]]; then
		"$function" "$command" "$cur" "$previous"
		# It has put another in its place.
		if (($? == 124)); then
			options= COMPREPLY=()
			read_spec || return
			[[ -z $function ]] || "$function" "$command" "$cur" "$previous"
		fi
	elif [[ -n $program ]]; then
		export COMP_LINE COMP_POINT COMP_TYPE COMP_KEY
		mapfile -t COMPREPLY < <(eval "$program" '"$command" "$cur" "$previous"')
	fi
	if ((${#generate[@]})); then
		mapfile -t more < <(compgen "${generate[@]}" -- "$cur")
		COMPREPLY+=("${more[@]}")
	fi
	case $options in
	*dirnames* | *default*) ((${#COMPREPLY[@]})) || from_files ;;
	esac
	options="bash$options"
}

from_fish() {
	type -P fish >/dev/null || return
	mapfile -t COMPREPLY < <(fish -c '
		for directory in $fish_complete_path
			if test -e $directory/$argv[1].fish
				set -l line (string escape -- $argv[1..-2]) (string escape -n -- $argv[-1])
				complete -C "$line" >&4
				exit
			end
		end' -- "${words[@]}" 4>&1 >/dev/null)
	((${#COMPREPLY[@]})) && options=fish
}

# Globbing, for it minds no byte of a name.
from_files() {
	local tilde='~'
	shopt -s nullglob
	if [[ $cur == '~'/* ]]; then
		COMPREPLY=("$HOME${cur#"$tilde"}"*)
		COMPREPLY=("${COMPREPLY[@]/#"$HOME"/$tilde}")
	else
		COMPREPLY=("$cur"*)
	fi
	options+=' filenames'
}

ways='from_fish from_bash'
[[ $shell != bash ]] || ways='from_bash from_fish'
for way in $ways; do
	$way && break
	options= COMPREPLY=()
done
if [[ -z $options ]]; then
	from_files
	options="bash$options"
fi
if [[ $options == *filenames* ]]; then
	for i in "${!COMPREPLY[@]}"; do
		file=${COMPREPLY[i]}
		[[ $file != '~'/* ]] || file=$HOME${file#\~}
		[[ ! -d $file || $file == */ ]] || COMPREPLY[i]+=/
	done
fi
printf '%s\0' "$options" "${COMPREPLY[@]}" >&3
