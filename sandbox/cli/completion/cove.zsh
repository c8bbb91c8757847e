#compdef cove
# zsh completion for cove. To use it: source <(cove completion zsh), behind compinit,
# or put it into a folder of $fpath as _cove.
_cove() {
	local -a lines found
	local line
	lines=("${(@f)$(${words[1]} complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}")
	for line in "${lines[@]}"; do
		case $line in
		'') ;;
		FILES) _files; return ;;
		DIRS) _files -/; return ;;
		COMMAND) _alternative 'commands:command:_command_names -e' 'files:file:_files'; return ;;
		*$'\t'*) found+=("${${line%%$'\t'*}//:/\\:}:${line#*$'\t'}") ;;
		*) found+=("${line//:/\\:}") ;;
		esac
	done
	(( $#found )) && _describe cove found
}
if [ "$funcstack[1]" = _cove ]; then
	_cove "$@"
else
	compdef _cove cove
fi
