"""Scripts that complete commands and options: made from the declarations, no program runs at Tab."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping

from bnfold.cli.parsing.command import Command
from bnfold.cli.parsing.declare import HELP, Spec

Commands = Mapping[str, Command]
Sentences = Mapping[str, str]


def bash(commands: Commands, sentences: Sentences) -> str:
    """For bash: options behind a dash, choices behind their option, files everywhere else."""
    cases = "\n".join(_bash_case(name, command) for name, command in commands.items())
    return f"""_bnfold() {{
    local word="${{COMP_WORDS[COMP_CWORD]}}" before="${{COMP_WORDS[COMP_CWORD-1]}}" words= command=
    [[ $COMP_CWORD -gt 1 ]] && command="${{COMP_WORDS[1]}}"
    case "$command" in
    '') words="{" ".join(commands)} --help --version" ;;
{cases}
    esac
    if [[ -n $words && ( $word == -* || $words != -* ) ]]; then
        COMPREPLY=( $(compgen -W "$words" -- "$word") )
    else
        COMPREPLY=( $(compgen -f -- "$word") )
    fi
}}
complete -o filenames -o bashdefault -F _bnfold bnfold
"""


def _bash_case(name: str, command: Command) -> str:
    lines = [f"    {name})", f"        words={shlex.quote(' '.join(_names(command)))}"]
    choices = [s for s in command.specs if s.choices]
    if any(s.is_argument for s in choices):
        (values,) = (s.choices for s in choices if s.is_argument)
        lines.append(f"        words={shlex.quote(' '.join(values))}")
    if options := [s for s in choices if not s.is_argument]:
        lines.append('        case "$before" in')
        lines += [
            f"        {'|'.join(s.names)}) words={shlex.quote(' '.join(s.choices))} ;;"
            for s in options
        ]
        lines.append("        esac")
    return "\n".join([*lines, "        ;;"])


def _names(command: Command) -> Iterator[str]:
    for spec in command.specs:
        yield from spec.names
        if spec.negative:
            yield spec.negative
    yield HELP.called


def zsh(commands: Commands, sentences: Sentences) -> str:
    """For zsh, with a description of each option."""
    words = " ".join(shlex.quote(f"{name}:{sentence}") for name, sentence in sentences.items())
    cases = "\n".join(
        f"    {name}) _arguments {' '.join(_zsh_specs(command))} ;;"
        for name, command in commands.items()
    )
    return f"""#compdef bnfold
_bnfold() {{
    if (( CURRENT == 2 )); then
        local -a commands=({words})
        _describe command commands
        return
    fi
    local command=$words[2]
    shift words
    (( CURRENT-- ))
    case $command in
{cases}
    esac
}}
compdef _bnfold bnfold
"""


def _zsh_specs(command: Command) -> Iterator[str]:
    for spec in command.specs:
        values = f"({' '.join(spec.choices)})" if spec.choices else "_files"
        if spec.is_argument:
            yield shlex.quote(f"{'*' if spec.many else ''}:{_plain(spec.metavar)}:{values}")
            continue
        behind = "" if spec.is_flag else f":{_plain(spec.metavar)}:{values}"
        star = "*" if spec.many else ""
        for name in (*spec.names, *([spec.negative] if spec.negative else [])):
            yield shlex.quote(f"{star}{name}[{_plain(spec.help)}]{behind}")


def _plain(text: str) -> str:
    """Without what zsh takes for its own."""
    return text.translate(str.maketrans("[]:", "()="))


def fish(commands: Commands, sentences: Sentences) -> str:
    """For fish, with a description of each option."""
    lines = [
        f"complete -c bnfold -n __fish_use_subcommand -f -a {name} -d {shlex.quote(sentence)}"
        for name, sentence in sentences.items()
    ]
    for name, command in commands.items():
        seen = shlex.quote(f"__fish_seen_subcommand_from {name}")
        for spec in command.specs:
            lines.append(f"complete -c bnfold -n {seen} {' '.join(_fish_words(spec))}")
    return "\n".join(lines) + "\n"


def _fish_words(spec: Spec) -> Iterator[str]:
    for name in spec.names:
        yield f"-l {name[2:]}" if name.startswith("--") else f"-s {name[1:]}"
    if spec.negative:
        yield f"-l {spec.negative[2:]}"
    if spec.choices:
        yield f"{'-f' if spec.is_argument else '-x'} -a {shlex.quote(' '.join(spec.choices))}"
    elif spec.is_argument:
        yield "-F"
    elif not spec.is_flag:
        yield "-r"
    yield f"-d {shlex.quote(spec.help)}"
