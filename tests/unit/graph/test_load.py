# SPDX-License-Identifier: Apache-2.0
"""Graph files: what they mean, and what is said of those that are wrong."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovs_highway.errors import GraphError
from ovs_highway.graph.check import check
from ovs_highway.graph.load import parse
from ovs_highway.graph.model import DEFAULT_MEMORY, EndPoint, Graph, Link, Port, Rule, Vnf

WHOLE = """\
name: web
bridge: br0
trust: mine
vnfs:
  fw:
    template: forward
    ports: [in, out]
    cores: [2, 3]
    memory: 512M
    environment: {DEBUG: "1"}
  cache:
    kind: container
    image: cache:1
    command: [cache, --verbose]
    cores: shared
    ports:
      in: {queues: 4, ring-size: 4096, idle: sleep, mode: off, trust: other}
      out:
end-points:
  lan: {port: eth-lan}
  wan: {nic: 0000:01:00.0, vlan: 25}
links:
  - [lan, fw.in]
rules:
  - {from: fw.out, match: "tcp,tp_dst=80", to: cache.in, priority: 200}
  - {from: fw.out, to: [wan, lan]}
"""


def problems(text: str) -> list[str]:
    with pytest.raises(GraphError) as caught:
        parse(text, "web.yaml")
    return list(caught.value.problems)


def test_a_whole_graph() -> None:
    assert parse(WHOLE, "web.yaml").graph == Graph(
        name="web",
        bridge="br0",
        trust="mine",
        vnfs=(
            Vnf(
                name="fw",
                template="forward",
                ports=(Port(name="in"), Port(name="out")),
                cores=(2, 3),
                memory=512 << 20,
                environment={"DEBUG": "1"},
            ),
            Vnf(
                name="cache",
                kind="container",
                image="cache:1",
                command=("cache", "--verbose"),
                cores="shared",
                ports=(
                    Port(
                        name="in", queues=4, ring_size=4096, idle="sleep", mode="off", trust="other"
                    ),
                    Port(name="out"),
                ),
            ),
        ),
        endpoints=(
            EndPoint(name="lan", port="eth-lan"),
            EndPoint(name="wan", nic="0000:01:00.0", vlan=25),
        ),
        links=(Link(ends=("lan", "fw.in")),),
        rules=(
            Rule(source="fw.out", match="tcp,tp_dst=80", to=("cache.in",), priority=200),
            Rule(source="fw.out", to=("wan", "lan")),
        ),
    )


def test_the_least_graph() -> None:
    graph = parse("name: a\nbridge: b\nvnfs: {v: {}}\n", "a").graph
    assert graph == Graph(name="a", bridge="b", vnfs=(Vnf(name="v"),))
    assert graph.vnfs[0].memory == DEFAULT_MEMORY


def test_everything_wrong_is_told_at_once_with_line_and_field() -> None:
    text = WHOLE.replace("cores: [2, 3]", "cores: [2, x]").replace("idle: sleep", "idle: nap")
    text = text.replace("ring-size", "rings-size").replace("vlan: 25", "vlan: many")
    text = text.replace("[lan, fw.in]", "[lan]").replace("bridge: br0\n", "")
    assert problems(text) == [
        "web.yaml:1: 'bridge' is missing; add it",
        "web.yaml:7: vnfs.fw.cores[1]: is 'x'; give a number or a list of numbers or 'shared'",
        "web.yaml:16: vnfs.cache.ports.in.rings-size: there is no such field; did you mean"
        " 'ring-size'?",
        "web.yaml:16: vnfs.cache.ports.in.idle: is 'nap'; give one of poll, yield, sleep",
        "web.yaml:20: end-points.wan.vlan: is 'many'; give a number",
        "web.yaml:22: links[0]: is ['lan']; give two ends, such as [fw.out, cache.in]",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "g:1: is empty; give a mapping"),
        ("name: [", "g:1: expected the node content"),
        ("name: a\nbridge: b\nname: c\n", "g:3: name: stands twice; keep one"),
        ("name: a\nbridge: b\nvnfs:\n  1: {}\n", "g:4: vnfs.1: is 1; give a name, in quotes"),
        ("name: &a x\nbridge: *a\n", "g:2: aliases are not taken"),
        ("name: !!python/name:os.system x\n", "g:1: could not determine a constructor"),
        ("name: a\nbridge: b\nvnf: {}\n", "g:3: vnf: there is no such field; did you mean 'vnfs'?"),
        ("name: a\nbridge: b\nvnfs: []\n", "g:3: vnfs: is []; give a mapping from names"),
        ("name: a\nbridge: b\nvnfs: {f: {memory: much}}\n", "vnfs.f.memory: is 'much'; give"),
        ("name: a\nbridge: b\nvnfs: {f: {name: x}}\n", "vnfs.f.name: there is no such field"),
        ("name: a\nbridge: b\nrules: [{to: x}]\n", "g:3: rules[0]: 'from' is missing; add it"),
        ("name: a\n? [b]\n", "g:2: a key has to be a text"),
        ("name: a\nbridge: b\n---\nname: c\n", "g:3: but found another document"),
        ("name: a\nbridge: \x07\n", "g:1: this is not YAML"),
    ],
)
def test_what_is_said_of_a_wrong_file(text: str, expected: str) -> None:
    with pytest.raises(GraphError) as caught:
        parse(text, "g")
    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_message_is_of_the_first_and_counts_the_others() -> None:
    with pytest.raises(GraphError, match=r"^g:1: x: there is no such field; .* \(and 2 more\)$"):
        parse("x: 1\n", "g")


def test_json_with_characters_of_two_halves() -> None:
    assert parse('{"name": "\\ud83d\\ude00", "bridge": "b"}', "g").graph.name == "\U0001f600"


@given(
    st.sampled_from(["name", "table", "vnfs", "links", "rules", "end-points"]),
    st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists, max_leaves=5),
)
def test_whatever_stands_in_a_field_is_taken_or_refused_in_lines(key: str, value: object) -> None:
    text = json.dumps({"name": "a", "bridge": "b", key: value})
    said: list[str] = []
    try:
        parse(text, "g")
    except GraphError as error:
        said += error.problems
    assert all(line.startswith("g:") and len(line.splitlines()) == 1 for line in said)


@given(st.data())
def test_a_file_with_something_else_in_it_is_refused_in_lines_or_read(data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(WHOLE)))
    end = data.draw(st.integers(start, min(len(WHOLE), start + 20)))
    some = st.text(st.sampled_from(" \n\t[]{}:,-?!&*|>'\"#%@`~0x1enull\x85\ufeff"), max_size=6)
    said: list[str] = []
    try:
        document = parse(WHOLE[:start] + data.draw(some) + WHOLE[end:], "g")
        said += [document.marks.describe(problem) for problem in check(document.graph)]
    except GraphError as error:
        said += error.problems
    assert all(line.startswith("g:") and len(line.splitlines()) == 1 for line in said)
