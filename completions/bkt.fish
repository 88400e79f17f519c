# fish completion of bkt, and of every command that 'bkt shim init fish' gives it: all is asked of bkt.
function _bkt_complete
    set -l program bkt
    set -q _bkt_program; and set program $_bkt_program
    $program complete fish (commandline -cp | string collect) </dev/null 2>/dev/null
end
complete -c bkt -f -a '(_bkt_complete)'
