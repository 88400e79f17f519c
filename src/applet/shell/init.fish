# Puts a directory first in PATH, once.
function _bkt_first
    set -l rest
    for directory in $PATH
        test "$directory" = "$argv[1]"; or set -a rest $directory
    end
    set -gx PATH $argv[1] $rest
end
set -l bin (string replace -r '/distrobox$' '' -- $_bkt_distrobox)
contains -- "$bin" $PATH; or _bkt_first $bin
_bkt_first $_bkt_distrobox
if test -n "$_bkt_shims"
    _bkt_first $_bkt_shims
    test -z "$_bkt_granted"; or _bkt_first $_bkt_granted
    # The container's own pages come first (an empty element); what is only the host's is found behind them.
    if test -d "$_bkt_pages"; and not contains -- "$_bkt_pages" $MANPATH
        set -q MANPATH[1]; or set -gx MANPATH ''
        set -gx MANPATH $MANPATH $_bkt_pages
    end
end
functions -e _bkt_first
