# bash completion of clamr; made by: clamr completions bash
_clamr() {
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words="" offers="" index
    for ((index = 1; index < COMP_CWORD; index++)); do
        case "$words":${COMP_WORDS[index]} in
            :--db|:--config) ((index++)) ;;
            "":index) words="index" ;;
            "":search) words="search" ;;
            "":explain) words="explain" ;;
            "":ls) words="ls" ;;
            "":show) words="show" ;;
            "":rm) words="rm" ;;
            "":status) words="status" ;;
            "":encode) words="encode" ;;
            "":doctor) words="doctor" ;;
            "":demo) words="demo" ;;
            "":completions) words="completions" ;;
            "":models) words="models" ;;
            "models":pull) words="models pull" ;;
        esac
    done
    case "$words":$previous in
        "":--db) compopt -o filenames; COMPREPLY=($(compgen -d -- "$current")); return ;;
        "":--config) COMPREPLY=(); return ;;
        "index":--exclude) COMPREPLY=(); return ;;
        "index":--encoder) COMPREPLY=($(compgen -W "mini clamr clamr-omni hashed st" -- "$current")); return ;;
        "index":--language) COMPREPLY=(); return ;;
        "index":--asr-model) COMPREPLY=($(compgen -W "whisper-base whisper-tiny whisper-small whisper-medium whisper-large-v3 whisper-large-v3-turbo" -- "$current")); return ;;
        "index":--ocr) COMPREPLY=($(compgen -W "easyocr rapidocr" -- "$current")); return ;;
        "index":--ocr-lang) COMPREPLY=(); return ;;
        "index":--window) COMPREPLY=(); return ;;
        "index":--device) COMPREPLY=($(compgen -W "auto cpu cuda mps" -- "$current")); return ;;
        "index":--model) COMPREPLY=(); return ;;
        "index":--adapter) COMPREPLY=(); return ;;
        "index":--revision) COMPREPLY=(); return ;;
        "index":--adapter-revision) COMPREPLY=(); return ;;
        "index":--dtype) COMPREPLY=(); return ;;
        "index":--projection-init) COMPREPLY=(); return ;;
        "index":--template-vectors) COMPREPLY=(); return ;;
        "index":--quantize) COMPREPLY=(); return ;;
        "search":--modality|"search":-m) COMPREPLY=($(compgen -W "video speech ocr metadata" -- "$current")); return ;;
        "search":--weight) COMPREPLY=($(compgen -W "video= speech= ocr= metadata=" -- "$current")); return ;;
        "search":--since) COMPREPLY=(); return ;;
        "search":--until) COMPREPLY=(); return ;;
        "search":--longer) COMPREPLY=(); return ;;
        "search":--shorter) COMPREPLY=(); return ;;
        "search":--path) COMPREPLY=(); return ;;
        "search":--language) COMPREPLY=(); return ;;
        "search":--limit|"search":-n) COMPREPLY=(); return ;;
        "search":--scoring) COMPREPLY=($(compgen -W "token-max modality-max" -- "$current")); return ;;
        "search":--encoder) COMPREPLY=($(compgen -W "mini clamr clamr-omni hashed st" -- "$current")); return ;;
        "search":--device) COMPREPLY=($(compgen -W "auto cpu cuda mps" -- "$current")); return ;;
        "search":--model) COMPREPLY=(); return ;;
        "search":--adapter) COMPREPLY=(); return ;;
        "search":--revision) COMPREPLY=(); return ;;
        "search":--adapter-revision) COMPREPLY=(); return ;;
        "search":--dtype) COMPREPLY=(); return ;;
        "search":--projection-init) COMPREPLY=(); return ;;
        "search":--template-vectors) COMPREPLY=(); return ;;
        "search":--quantize) COMPREPLY=(); return ;;
        "explain":--query) COMPREPLY=(); return ;;
        "explain":--encoder) COMPREPLY=($(compgen -W "mini clamr clamr-omni hashed st" -- "$current")); return ;;
        "explain":--device) COMPREPLY=($(compgen -W "auto cpu cuda mps" -- "$current")); return ;;
        "explain":--model) COMPREPLY=(); return ;;
        "explain":--adapter) COMPREPLY=(); return ;;
        "explain":--revision) COMPREPLY=(); return ;;
        "explain":--adapter-revision) COMPREPLY=(); return ;;
        "explain":--dtype) COMPREPLY=(); return ;;
        "explain":--projection-init) COMPREPLY=(); return ;;
        "explain":--template-vectors) COMPREPLY=(); return ;;
        "explain":--quantize) COMPREPLY=(); return ;;
        "ls":--path) COMPREPLY=(); return ;;
        "encode":--frames) COMPREPLY=(); return ;;
        "encode":--ocr) COMPREPLY=($(compgen -W "easyocr rapidocr" -- "$current")); return ;;
        "encode":--asr) COMPREPLY=(); return ;;
        "encode":--description) COMPREPLY=(); return ;;
        "encode":--query) COMPREPLY=(); return ;;
        "encode":--output|"encode":-o) COMPREPLY=(); return ;;
        "encode":--encoder) COMPREPLY=($(compgen -W "mini clamr clamr-omni hashed st" -- "$current")); return ;;
        "encode":--device) COMPREPLY=($(compgen -W "auto cpu cuda mps" -- "$current")); return ;;
        "encode":--max-ocr-tokens) COMPREPLY=(); return ;;
        "encode":--max-asr-tokens) COMPREPLY=(); return ;;
        "encode":--max-description-tokens) COMPREPLY=(); return ;;
        "encode":--max-combined-tokens) COMPREPLY=(); return ;;
        "encode":--max-query-tokens) COMPREPLY=(); return ;;
        "encode":--model) COMPREPLY=(); return ;;
        "encode":--adapter) COMPREPLY=(); return ;;
        "encode":--revision) COMPREPLY=(); return ;;
        "encode":--adapter-revision) COMPREPLY=(); return ;;
        "encode":--dtype) COMPREPLY=(); return ;;
        "encode":--projection-init) COMPREPLY=(); return ;;
        "encode":--template-vectors) COMPREPLY=(); return ;;
        "encode":--quantize) COMPREPLY=(); return ;;
        "demo":--dir) compopt -o filenames; COMPREPLY=($(compgen -d -- "$current")); return ;;
    esac
    case "$words:$current" in
        ":"-*) offers="--db --config --version --help" ;;
        ":"*) offers="index search explain ls show rm status encode doctor demo completions models" ;;
        "index:"-*) offers="--exclude --encoder --language --asr-model --ocr --ocr-lang --no-speech --no-ocr --window --retry-failed --device --json --quiet -q --model --adapter --revision --adapter-revision --dtype --projection-init --template-vectors --quantize --help" ;;
        "index:"*) offers="" ;;
        "search:"-*) offers="--modality -m --weight --since --until --longer --shorter --path --language --limit -n --moments --scoring --encoder --device --csv --paths -0 --null --json --tsv --table --model --adapter --revision --adapter-revision --dtype --projection-init --template-vectors --quantize --help" ;;
        "search:"*) offers="" ;;
        "explain:"-*) offers="--query --encoder --device --json --tsv --table --model --adapter --revision --adapter-revision --dtype --projection-init --template-vectors --quantize --help" ;;
        "explain:"*) offers="" ;;
        "ls:"-*) offers="--path --json --tsv --table --help" ;;
        "ls:"*) offers="" ;;
        "show:"-*) offers="--json --tsv --table --help" ;;
        "show:"*) offers="" ;;
        "rm:"-*) offers="--yes -y --help" ;;
        "rm:"*) offers="" ;;
        "status:"-*) offers="--failed --json --tsv --table --help" ;;
        "status:"*) offers="" ;;
        "encode:"-*) offers="--frames --ocr --asr --description --query --output -o --encoder --device --max-ocr-tokens --max-asr-tokens --max-description-tokens --max-combined-tokens --max-query-tokens --model --adapter --revision --adapter-revision --dtype --projection-init --template-vectors --quantize --help" ;;
        "encode:"*) offers="" ;;
        "doctor:"-*) offers="--json --tsv --table --help" ;;
        "doctor:"*) offers="" ;;
        "demo:"-*) offers="--dir --help" ;;
        "demo:"*) offers="" ;;
        "completions:"-*) offers="--help" ;;
        "completions:"*) offers="bash zsh fish" ;;
        "models:"-*) offers="--json --tsv --table --help" ;;
        "models:"*) offers="pull" ;;
        "models pull:"-*) offers="--quiet -q --help" ;;
        "models pull:"*) offers="whisper-base easyocr-en minilm-l6 efficientnet-lite2 whisper-tiny whisper-small whisper-medium whisper-large-v3 whisper-large-v3-turbo easyocr-latin easyocr-cyrillic easyocr-chinese-simplified easyocr-chinese-traditional easyocr-japanese easyocr-korean easyocr-thai easyocr-devanagari easyocr-arabic easyocr-tamil easyocr-bengali easyocr-telugu easyocr-kannada clamr clamr-omni" ;;
    esac
    COMPREPLY=($(compgen -W "$offers" -- "$current"))
}
complete -o bashdefault -o default -F _clamr clamr
