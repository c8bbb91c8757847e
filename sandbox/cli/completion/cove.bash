# bash completion for cove. To use it: source <(cove completion bash)
_cove() {
	local words=("${COMP_WORDS[@]:1:COMP_CWORD}") line out=()
	# bash parts words at = and :, cove does not; put them together again as they were typed.
	local typed=${COMP_LINE:0:COMP_POINT}
	if [[ ${words[*]} == *[=:]* ]]; then
		words=()
		local w rest=${typed#"${COMP_WORDS[0]}"}
		read -r -a words <<<"$rest"
		[[ $typed == *[[:space:]] ]] && words+=("")
	fi
	local cur=${words[${#words[@]}-1]}
	while IFS= read -r line; do
		case $line in
		FILES) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -f -- "$cur"); return ;;
		DIRS) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -d -- "$cur"); return ;;
		COMMAND) compopt -o filenames 2>/dev/null; mapfile -t COMPREPLY < <(compgen -c -f -- "$cur" | sort -u); return ;;
		*) out+=("${line%%$'\t'*}") ;;
		esac
	done < <("${COMP_WORDS[0]}" complete -- "${words[@]}" 2>/dev/null)
	# Readline replaces only what stands behind the last = or :.
	local before=${cur%"${cur##*[=:]}"} i
	for i in "${!out[@]}"; do out[i]=${out[i]#"$before"}; done
	COMPREPLY=("${out[@]}")
}
complete -F _cove cove
