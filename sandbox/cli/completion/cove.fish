# fish completion for cove. To use it: cove completion fish | source
function __cove_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l lines (command $words[1] complete -- $words[2..-1] 2>/dev/null)
    switch "$lines[1]"
        case FILES
            __fish_complete_path (commandline -ct)
        case DIRS
            __fish_complete_directories (commandline -ct)
        case COMMAND
            __fish_complete_command
            __fish_complete_path (commandline -ct)
        case '*'
            printf '%s\n' $lines
    end
end
complete -c cove -f -a '(__cove_complete)'
