if status is-interactive; and test -n "$_bkt_shims"
    # Before each prompt: a shim that is made later needs no new shell. Erasing first keeps the container's own completion of that
    # name from being loaded beside the host's.
    function _bkt_add --on-event fish_prompt
        for link in $_bkt_shims/*
            contains -- $link $_bkt_known; and continue
            set -ga _bkt_known $link
            set -l name (path basename -- $link 2>/dev/null; or string replace -r '.*/' '' -- $link)
            complete -e -c $name
            complete -c $name -f -a '(_bkt_complete)'
        end
    end

    if not functions -q _bkt_other_man
        functions -q man; and functions -c man _bkt_other_man
        function man
            for word in $argv
                if test -n "$word"; and test -L "$_bkt_shims/$word"
                    $_bkt_program man $argv
                    return
                end
            end
            if functions -q _bkt_other_man
                _bkt_other_man $argv
            else
                command man $argv
            end
        end
    end
end
