#!/usr/bin/env python3
"""Writes what Jinja2, set up as Hugging Face transformers sets it up, makes of chat templates.

    template_vectors.py REPOSITORY_ROOT OUT_FILE

One JSON object a line: name, template, input, and either output or error (the class of the exception). The templates are
written here to use every construct that the engine's interpreter has, in the manner of published chat templates.
"""
import itertools
import json
import sys
from pathlib import Path

import jinja2
import jinja2.ext
import jinja2.sandbox

import template_families


class Generation(jinja2.ext.Extension):
    """{% generation %}: transformers marks the assistant's text with it; the body is called as a macro."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_text"), [], [], body).set_lineno(line)

    def _text(self, caller):
        return caller()


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[jinja2.ext.loopcontrols, Generation])

    def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
        return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)

    def raise_exception(message):
        raise jinja2.exceptions.TemplateError(message)

    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    for name in ("lipsum", "cycler", "joiner"):  # the engine has none of these; strftime_now it says not to be defined
        env.globals.pop(name, None)
    return env


CHAT = {"messages": [{"role": "system", "content": "Be brief.\n"}, {"role": "user", "content": "  What is 2+2?  "},
                     {"role": "assistant", "content": "4 is \"the\" answer's <value>."}, {"role": "user", "content": "Grüße 你好 🙂"}],
        "bos_token": "<s>", "eos_token": "</s>", "add_generation_prompt": True}
TOOLS = [{"type": "function", "function": {"name": "get_weather", "description": "It's the weather & more", "parameters": {
    "type": "object", "properties": {"city": {"type": "string", "enum": ["Zürich", "東京"]}, "days": {"type": "integer", "default": 3}},
    "required": ["city"]}}}, {"type": "function", "function": {"name": "now", "parameters": {}}}]
DOCUMENTS = [{"id": 17, "title": "A", "text": "first\n"}, {"doc_id": "x-9", "content": "second"}, {"text": "third", "title": ""}]
DATA = {"n": 7, "neg": -7, "f": 2.5, "big": 12345678901234, "t": True, "no": False, "nil": None, "empty": "", "s": "  Hello, wörld! ",
        "words": ["pear", "Apple", "fig", "apple", "Banana"], "nums": [3, 1, 2, 10, 1], "d": {"b": 1, "a": [1, 2.0, None, True, "x'y"], "items": "key"},
        "people": [{"name": "Ada", "age": 36, "tags": ["x"]}, {"name": "bob", "age": 5}, {"name": "Cy", "age": 36, "tags": []}],
        "nested": {"list": [[1, 2], [3]], "deep": {"er": {"x": "found"}}}, "text": "line one\n\nline three\n  four", "ws": "\u00a0\u2003x\u3000\n",
        "floats": [1.0, 0.1, 1e16, 1e-5, 123456789.125, 1e22, -0.0, 100000000000000.0], "quote": "it's \"q\" \\ \n\t\x01 é \u200b"}

LLAMA_LIKE = """{{- bos_token }}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content'] | trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = "" %}
{%- endif %}
<|start|>system<|stop|>

{{ system_message }}{% if tools is not none and tools is defined %}

Tools:
{% for t in tools %}
{{ t | tojson(indent=4) }}

{% endfor %}
{% endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start|>' + message['role'] + '<|stop|>\\n\\n' + message['content'] | trim + '<|eot|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if message.tool_calls | length != 1 %}
            {{- raise_exception("one call at a time") }}
        {%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {{- '{"name": "' + call.name + '", "parameters": ' }}
        {{- call.arguments | tojson }}
        {{- "}<|eot|>" }}
    {%- elif message.role == "tool" or message.role == "ipython" %}
        {%- if message.content is mapping or message.content is iterable %}
            {{- message.content | tojson }}
        {%- else %}
            {{- message.content }}
        {%- endif %}
        {{- "<|eot|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|start|>assistant<|stop|>\\n\\n' }}
{%- endif %}
"""
QWEN_LIKE = """{%- if tools %}
    {{- '<|im|>system\\n' }}
    {%- if messages[0].role == 'system' %}
        {{- messages[0].content + '\\n\\n' }}
    {%- endif %}
    {{- "# Tools\\n<tools>" }}
    {%- for tool in tools %}
        {{- "\\n" }}
        {{- tool | tojson }}
    {%- endfor %}
    {{- "\\n</tools><|/im|>\\n" }}
{%- else %}
    {%- if messages[0].role == 'system' %}
        {{- '<|im|>system\\n' + messages[0].content + '<|/im|>\\n' }}
    {%- endif %}
{%- endif %}
{%- set ns = namespace(multi_step_tool=true, last_query_index=messages|length - 1) %}
{%- for message in messages[::-1] %}
    {%- set index = (messages|length - 1) - loop.index0 %}
    {%- if ns.multi_step_tool and message.role == "user" and message.content is string and not(message.content.startswith('<tool>') and message.content.endswith('</tool>')) %}
        {%- set ns.multi_step_tool = false %}
        {%- set ns.last_query_index = index %}
    {%- endif %}
{%- endfor %}
{%- for message in messages %}
    {%- if message.content is string %}
        {%- set content = message.content %}
    {%- else %}
        {%- set content = '' %}
    {%- endif %}
    {%- if (message.role == "user") or (message.role == "system" and not loop.first) %}
        {{- '<|im|>' + message.role + '\\n' + content + '<|/im|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {%- set reasoning = '' %}
        {%- if message.reasoning is string %}
            {%- set reasoning = message.reasoning %}
        {%- elif '</think>' in content %}
            {%- set reasoning = content.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') %}
            {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
        {%- endif %}
        {%- if loop.index0 > ns.last_query_index and (loop.last or (not loop.last and reasoning)) %}
            {{- '<|im|>' + message.role + '\\n<think>\\n' + reasoning.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n') }}
        {%- else %}
            {{- '<|im|>' + message.role + '\\n' + content }}
        {%- endif %}
        {%- if message.tool_calls %}
            {%- for tool_call in message.tool_calls %}
                {%- if (loop.first and content) or (not loop.first) %}
                    {{- '\\n' }}
                {%- endif %}
                {%- if tool_call.function %}
                    {%- set tool_call = tool_call.function %}
                {%- endif %}
                {{- '<call>{"name": "' }}{{- tool_call.name }}{{- '", "arguments": ' }}
                {%- if tool_call.arguments is string %}{{- tool_call.arguments }}{%- else %}{{- tool_call.arguments | tojson }}{%- endif %}
                {{- '}</call>' }}
            {%- endfor %}
        {%- endif %}
        {{- '<|/im|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.first or (messages[loop.index0 - 1].role != "tool") %}
            {{- '<|im|>user' }}
        {%- endif %}
        {{- '\\n<response>\\n' }}{{- content }}{{- '\\n</response>' }}
        {%- if loop.last or (messages[loop.index0 + 1].role != "tool") %}
            {{- '<|/im|>\\n' }}
        {%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}
        {{- '<think>\\n\\n</think>\\n\\n' }}
    {%- endif %}
{%- endif %}"""
MISTRAL_LIKE = """{{ bos_token }}{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('Roles must alternate: user, assistant, ...') }}{% endif %}
{%- if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}
{%- elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}
{%- else %}{{ raise_exception('Only user and assistant roles are known, found ' ~ message.role) }}{% endif %}{% endfor %}"""
MACROS = """{%- macro render(type, depth=0, mark='*') -%}
{{ '  ' * depth }}{{ mark }} {{ type.name | default('?') }}{% if type.kids %}
{% for kid in type.kids %}

{{ render(kid, depth + 1, mark=mark) }}{% endfor %}
{% endif %}
{%- endmacro -%}
{{ render({'name': 'root', 'kids': [{'name': 'a'}, {'kids': [{'name': 'c'}]}]}) }}
{{ render({'name': 'other'}, mark='-') }}"""

# Names to inputs.
INPUTS = {
    "chat": CHAT,
    "chat_plain": {"messages": CHAT["messages"][1:], "bos_token": "<s>", "eos_token": "</s>"},
    "chat_tools": CHAT | {"tools": TOOLS, "messages": CHAT["messages"][:2] + [
        {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "get_weather", "arguments": {"city": "東京", "days": 1.5}}}]},
        {"role": "tool", "content": {"temp": 20, "list": [1, None, True]}}, {"role": "tool", "content": "sunny"}]},
    "chat_think": CHAT | {"enable_thinking": False, "messages": CHAT["messages"][1:] + [
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nDone"}, {"role": "assistant", "content": "x", "reasoning": "\nwhy\n"}]},
    "chat_bad": CHAT | {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}], "tools": None},
    "documents": {"messages": CHAT["messages"], "documents": DOCUMENTS, "add_generation_prompt": True},
    "nothing": {"messages": []},
}

# Expressions, each printed between brackets with DATA as input.
EXPRESSIONS = """
n + 1 * 2 | neg - n | n / 2 | n // 2 | neg // 2 | n % 4 | neg % 4 | 2 ** 10 | 2 ** -1 | f * 2 | f // 1 | -f | +n | -n | - 3 + 5 | 7.5 % 2 | -7.5 % 2 | 1e3 | 1_000 | 0.5
n ~ s ~ nil ~ t ~ f | 'a' + 'b' | 'ab' * 3 | 3 * 'ab' | [1] + [2, 3] | [1, 2] * 2 | (1, 2) + (3,) | () | (1,) | 1, 2 | [[], {}]
n == 7 | n != 7 | 1 == 1.0 | true == 1 | 'a' < 'b' | 1 < 2 < 3 | 1 < 3 < 2 | 3 > 2 >= 2 | [1, 2] < [1, 3] | 'a' == 1 | nil == none | {'a': 1} == {'a': 1.0} | missing == other | 'é' > 'z'
n in nums | 3 in nums | 'ell' in s | 'b' in d | 'q' not in d | not n in nums | not t | t and n | no or s | nil or empty or 'last' | t and no or n | not (t and no) | not not t | missing or 'fallback' | missing and 1
'yes' if t else 'no' | 'yes' if no | ('a' if no else 'b') ~ 'c' | 1 if t else 2 if no else 3 | (1 if no) is undefined
missing | missing is defined | missing.x is defined | nested.deep.er.x | nested['deep']['er']['x'] | nested.nope | nested.deep.nope.x | d['items'] | d.b | d['zz'] | nil.x | nums.0 | nested.list.1.0
nums[0] | nums[-1] | nums[99] | nums[1:3] | nums[:2] | nums[2:] | nums[::2] | nums[::-1] | nums[-2:] | nums[5:1] | nums[4:0:-2] | s[2] | s[-1] | s[2:7] | s[::-1] | s[99] | words[1][0] | nums[n - 6] | 'äöü'[1] | 'äöü'[-2:]
s.strip() | s.lstrip() | s.rstrip() | s.strip(' !') | s.upper() | s.lower() | s.title() | s.strip().capitalize() | s.split() | s.split('l') | s.split('l', 1) | 'a,b,,c'.split(',') | 'a  b c '.split(none, 1) | ''.split() | ''.split(',') | 'a-b-c'.rsplit('-', 1)
s.startswith('  H') | s.endswith(('x', ' ')) | s.replace('l', 'L') | s.replace('l', '', 1) | 'aaa'.replace('', '-') | s.find('w') | s.find('zz') | s.count('l') | 'abab'.rfind('ab') | 'abc'.index('c') | 'x'.join(['a', 'b']) | text.splitlines() | text.splitlines(true) | 'prefix-x'.removeprefix('prefix-') | 'a.txt'.removesuffix('.txt') | '12'.isdigit() | ' '.isspace() | ws.strip() | 'xxhixx'.strip('x') | 'straße'.upper() | "they're bill's".title()
d.keys() | list | d.values() | list | d.items() | list | d.get('b') | d.get('zz') | d.get('zz', 'def') | d | list | d | length | d | items | list | d.a | d | dictsort
words | join(', ') | words | join | nums | join('-') | people | join(', ', attribute='name') | words | first | words | last | [] | first | 'abc' | first | 'abc' | last | words | length | s | length | missing | length | '' | length | '日本語' | length
words | sort | words | sort(reverse=true) | words | sort(case_sensitive=true) | nums | sort | people | sort(attribute='age') | map(attribute='name') | list | words | unique | list | nums | unique | list | nums | sum | people | sum(attribute='age') | nums | min | nums | max | words | min | [] | max | nums | reverse | list | 'abc' | reverse
people | map(attribute='name') | list | people | map(attribute='zz', default='-') | list | words | map('upper') | list | nums | map('string') | join | people | selectattr('age', 'gt', 10) | map(attribute='name') | join(' ') | people | rejectattr('tags') | list | people | selectattr('tags') | list | length | people | selectattr('name', 'equalto', 'bob') | list | nums | select('odd') | list | nums | reject('odd') | list | words | select('in', ['fig', 'x']) | list | people | selectattr('tags', 'defined') | list | length | nums | select | list
missing | default('d') | empty | default('d') | empty | default('d', true) | nil | default('d') | nil | d('x', boolean=true) | missing | default | no | default(1) | n | default(2)
s | trim | s | upper | s | lower | 'hello wORLD-foo (bar' | title | 'hELLO' | capitalize | '  x ' | trim | 'xxaxx' | trim('x') | s | replace('l', 'L') | s | replace('l', 'L', 2) | n | string | n | string | length | t | string | f | string | nil | string | s | safe
'12' | int | ' 12 ' | int | '12.7' | int | 'x' | int | 'x' | int(5) | f | int | t | int | nil | int | 'ff' | int(base=16) | '1.5' | float | n | float | 'x' | float | -3 | abs | neg | abs | f | abs
d | tojson | nums | tojson | s | tojson | quote | tojson | t | tojson | nil | tojson | floats | tojson | d | tojson(indent=2) | nested | tojson(indent=4) | [] | tojson(indent=2) | {} | tojson | {'b': 1, 'a': 2} | tojson(sort_keys=true) | {1: 'x', none: 2, true: 3} | tojson | (1, 2) | tojson | people | tojson(indent=1)
text | indent | text | indent(2) | text | indent(2, true) | text | indent(2, blank=true) | text | indent('> ')
n is number | f is number | s is string | nums is string | d is mapping | nums is mapping | nums is sequence | s is sequence | d is sequence | n is sequence | nums is iterable | s is iterable | n is iterable | missing is iterable | missing is sequence | t is boolean | n is boolean | t is true | n is true | no is false | nil is none | missing is none | n is integer | f is integer | f is float | t is integer | t is number
n is odd | n is even | n is divisibleby(7) | n is divisibleby 2 | n is equalto 7 | n is eq(7) | n is ne 7 | n is gt 5 | n is lt(5) | n is ge 7 | n is le 6 | 3 is in nums | 'x' is in 'xyz' | s is not string | missing is not defined | n is not none and t | not n is none | 'abc' is lower | 'ABC' is upper | '1' is lower
words | map('length') | list | words | map('replace', 'a', '_') | list | words | map('first') | join | nested.list | map('join', '+') | list | nested.list | sum(start=[])
d | floats | quote | [quote, s] | {'k': [none, true, 1.5, 'v']} | nums | people | [1.0, 1e100, -0.0] | {1: 2, 'a': none} | ('a', 'b') | words | tojson | 'tab\there' | ['tab\there'] | "dq\\"s" | 'sq\\'s' | '\\u00e9\\x41\\101\\q' | 'adjacent ' 'strings'
none | map('upper') | list | none | selectattr('a') | list | no | rejectattr('a', 'eq', 1) | list | people | sort(attribute='zz') | list | length | [none, none] | sort | people | sort(attribute='age,name') | map(attribute='name') | list | {2: 'b', 0: 'a', 10: 'c'} | dictsort | d | dictsort(reverse=true) | {'B': 1, 'a': 2} | dictsort(true) | {'a': 2, 'b': 1} | dictsort(by='value') | {1: 2, 'a': 1} | dictsort
d.keys() | d.values() | d.items() | d.keys()[0] | d.keys() is sequence | d.keys() is iterable | 'b' in d.keys() | d.items() | length | d.items() | first | d.values() | tojson | {}.keys() or 'empty' | d.keys() + ['x'] | d.keys() | last
d | tojson(separators=(',', ':')) | d | tojson(indent=2, separators=[';', '=']) | quote | tojson(ensure_ascii=true) | '🙂é' | tojson(ensure_ascii=true) | nested | tojson(indent='\\t') | d | tojson(separators=(1, 2)) | d | tojson(indent=true) | d | tojson(indent=-1)
'<a>' | safe | '<a>' | safe + '<b>' | '<b>' + '<a>' | safe | ('<a>' | safe) ~ '<b>' | '<a>' | e | '<a>' | e | e | '<a>' | e | forceescape | ('<a>' | safe).upper() + '&' | ['<a>' | safe] | '"x"' | safe + "'y'" | ('<a>' | safe)[1:] + '<' | ('<a,b>' | safe).split(',') | 'a<b' | safe | replace('a', '<') + '<' | ('a<b' | safe).replace('a', '<') | ('<' | safe) * 2 + '<' | '<' | safe | trim + '<' | '<' | safe | string + '<' | '<' | safe is escaped | '<' is escaped | '<' | safe == '<' | (5 | safe) + '<' | ('<' | safe) | title + '<'
'a-b-c'.partition('-') | 'a-b-c'.rpartition('-') | 'abc'.partition('x') | 'abc'.rpartition('x') | 'a'.partition('') | 'é'.center(4, '*') | 'ab'.center(5, '-') | 'ab'.ljust(4) | 'ab'.rjust(4, '🙂') | '-5'.zfill(4) | 'abc'.ljust(2) | 'a'.center(4, 'xy') | 'aé'.isalpha() | 'a1é'.isalnum() | 'a b'.isalnum() | ''.isalpha() | 'ab1'.islower() | 'AB'.isupper() | '12'.isupper() | 'Ab'.isupper()
2.5 | round | 3.5 | round | 2.675 | round(2) | 7 | round | 2.1 | round(0, 'ceil') | -2.1 | round(method='floor') | 1234.5678 | round(3) | 'x' | round | 0.1 | round(20)
range(3) | list | range(2, 5) | list | range(5, 0, -2) | list | range(0) | list | dict(a=1, b='x') | dict([('p', 1)]) | namespace(a=3).a | namespace(a=3).b | (nums | length) * 2 | nums | length * 2 | -nums | length | (n if n > 5 else 5) + 1 | {'a': 1}.a | {'a': 1}['a'] | [1, 2, 3][1] | 'abc'.upper()[0] | (1, 2)[1] | {'x': {'y': [10, 20]}}.x.y[1] | [n, s.strip() | upper]
missing.attr | missing + 1 | 1 + missing | missing() | s() | n.x.y | nil | length | 1 / 0 | 1 // 0 | 1 % 0 | 'a' + 1 | 1 + 'a' | [1] + 'a' | 'a' < 1 | missing < 1 | none < 1 | s.nope() | nums.append(1) | d.update({}) | missing | tojson | n | nofilter | n is notest | missing['x'] | [missing] | join('-') | {[]: 1} | -s | 'x' in 5 | 5 in 'x' | s.split('') | nums | first | upper
"""

# Whole templates with DATA as input.
STATEMENTS = [
    "{% for x in nums %}{{ x }},{% endfor %}",
    "{% for x in nums %}{{ loop.index }}/{{ loop.index0 }}/{{ loop.revindex }}/{{ loop.revindex0 }}/{{ loop.first }}/{{ loop.last }}/{{ loop.length }} {% endfor %}",
    "{% for x in nums %}{{ loop.previtem }}<{{ x }}>{{ loop.nextitem }} {% endfor %}",
    "{% for x in nums if x > 1 %}{{ loop.index }}:{{ x }} {% endfor %}",
    "{% for x in nums if x > 100 %}{{ x }}{% else %}none{% endfor %}",
    "{% for x in [] %}{{ x }}{% else %}empty{% endfor %}",
    "{% for x in missing %}{{ x }}{% else %}empty{% endfor %}",
    "{% for k, v in d.items() %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | items %}{{ k }}={{ v }};{% endfor %}",
    "{% for k, v in d | dictsort %}{{ k }}={{ v }};{% endfor %}",
    "{% for k in d %}{{ k }};{% endfor %}",
    "{% for c in 'aé🙂' %}[{{ c }}]{% endfor %}",
    "{% for (a, b) in [(1, 2), (3, 4)] %}{{ a }}{{ b }} {% endfor %}",
    "{% for a, b in [(1, 2, 3)] %}{{ a }}{% endfor %}",
    "{% for x in n %}{{ x }}{% endfor %}",
    "{% for x in none %}{{ x }}{% endfor %}",
    "{% for x in nums %}{% if x == 2 %}{% continue %}{% endif %}{% if x == 10 %}{% break %}{% endif %}{{ x }}{% endfor %}",
    "{% for x in nested.list %}{% set outer = loop %}{% for y in x %}{{ outer.index }}.{{ loop.index }}={{ y }} d{{ loop.depth }} {% endfor %}{% endfor %}",
    "{% set x = 1 %}{% for i in nums %}{% set x = x + i %}{{ x }} {% endfor %}{{ x }}",
    "{% set ns = namespace(x=1, y='a') %}{% for i in nums %}{% set ns.x = ns.x + i %}{% endfor %}{{ ns.x }}{{ ns.y }}",
    "{% set ns = namespace() %}{% set ns.list = [] %}{% for i in nums %}{% set ns.list = ns.list + [i * i] %}{% endfor %}{{ ns.list }}",
    "{% set d.b = 3 %}{{ d.b }}",
    "{% set a, b = 1, 2 %}{{ a }}{{ b }}", "{% set a, b = nums %}{{ a }}",
    "{% if t %}{% set inside = 'kept' %}{% endif %}{{ inside }}",
    "{% for i in [1] %}{% set inside = 'lost' %}{% endfor %}[{{ inside }}]",
    "{% set block %}\n  some {{ n }} text\n{% endset %}[{{ block }}]",
    "{% set block | upper | trim %}\n  some {{ s }} text\n{% endset %}[{{ block }}]",
    "{% if no %}a{% elif nil %}b{% elif n %}c{% else %}d{% endif %}", "{% if no %}a{% else %}b{% endif %}", "{% if missing %}a{% endif %}b",
    "{% if nums | selectattr('x') %}generators are true{% endif %}", "{% if nums | select('gt', 99) | list %}a{% else %}b{% endif %}",
    "{% with a = n, b = 2 %}{{ a + b }}{% endwith %}[{{ a }}]", "{% with %}{% set q = 1 %}{{ q }}{% endwith %}[{{ q }}]",
    "{% macro m(a, b=2) %}<{{ a }},{{ b }}>{% endmacro %}{{ m(1) }}{{ m(1, 3) }}{{ m(b=5, a=4) }}{{ m() }}",
    "{% macro m(a) %}{{ a }}{{ n }}{{ x }}{% endmacro %}{% set x = 5 %}{{ m(1) }}",
    "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(1, 2) }}", "{% macro m(a) %}{{ a }}{% endmacro %}{{ m(zz=2) }}",
    "{% macro m() %}  x  {% endmacro %}[{{ m() | trim }}]", "{% macro f(n) %}{{ n }}{% if n > 0 %}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(5) }}",
    "{% generation %}inside {{ n }}{% endgeneration %} outside", "{% generation %}\n  x\n{% endgeneration %}\ny",
    "{% raw %}{{ not }} {% a tag %}{% endraw %} after", "a\n  {% raw %}\n  {{ x }}\n  {% endraw %}\nb", "a {%- raw -%}  {{ x }}  {%- endraw -%} b",
    "{# a comment #}x{# another\nline #}y", "a {#- stripped -#} b", "a\n  {# line #}\nb", "a\n  {#+ kept #}\nb", "{# {{ nested }} {% x %} #}z",
    "a\n    {% if t %}\n    b\n    {% endif %}\nc", "a\n    {%- if t %}\n    b\n    {%- endif %}\nc", "a\n    {% if t -%}\n    b\n    {% endif -%}\nc",
    "a\n    {%+ if t %}\n    b\n    {%+ endif %}\nc", "a\n    {% if t +%}\n    b\n    {% endif +%}\nc", "a {{- n -}} b", "a\n{{- n -}}\nb", "a\n  {{ n }}\n  b", "{{ n }}\n{{ n }}\n",
    "  {% if t %}  x  {% endif %}  \n  y", "x {% if t %} y {% endif %} z", "\t {% if t %}\tx{% endif %}\n\n\ny", "{% if t %}\n\nx{% endif %}\n", "  {{ n }}  {% if t %}  {% endif %}  ",
    "{% if t %}{% endif %}   {% if t %}a{% endif %}\n   {% if t %}b{% endif %}", "{%if t%}a{%endif%}{{n}}{{-n-}}{{+n}}", "a\r\nb\rc\n{% if t %}\r\nd{% endif %}\r\n", "trailing\n", "trailing\n\n", "\n\nleading",
    "{%- for x in nums -%}\n  {{ x }}\n{%- endfor -%}\nend", "\u00a0{%- if t %}x{% endif -%}\u3000y", "  \u2003{% if t %}x{% endif %}", "{{ '}}' }}{{ \"%}\" }}{{ '{{' }}", "{{ {'a': {'b': 1}}['a']['b'] }}", "{{{'a': 1}}}", "{ { x } } {x} {", "{",
    "{{ n\n  +\n  1 }}", "{{ [\n 1,\n 2,\n] }}", "{{ {'a': 1,\n 'b': 2,} }}", "{{ namespace(x=1).x }}", "{% set x = {'a': n} %}{{ x.a }}", "{% set range = 5 %}{{ range }}",
    # Generators give their members once; views of dicts do not.
    "{% set g = nums | select('odd') %}{{ g | list }}{{ g | list }}{{ g is iterable }}", "{% set g = nums | map('string') %}{{ g | first }}{{ g | join('-') }}{{ '1' in g }}",
    "{% set g = nums | select %}{{ 2 in g }}{{ g | list }}", "{% set g = d.items() %}{{ g | list }}{{ g | list }}", "{% set g = nums | reverse %}{% for x in g %}{{ x }}{% endfor %}{% for x in g %}{{ x }}{% else %}none left{% endfor %}",
    # Bodies as values.
    "{% filter upper | trim %}  {{ s }} a  {% endfilter %}", "{% filter replace('a', 'b') %}{% set q = 1 %}banana{% endfilter %}[{{ q }}]",
    "{% macro m(a) %}<{{ a }}{{ caller() }}>{% endmacro %}{% set x = 1 %}{% call m(2) %}in {{ x }}{% endcall %}",
    "{% macro m() %}{% for i in [1, 2] %}{{ caller(i, b=i * 2) }};{% endfor %}{% endmacro %}{% for k in ['p', 'q'] %}{% call(a, b=0) m() %}{{ k }}{{ a }}{{ b }}{{ loop.index }}{% endcall %}{% endfor %}",
    "{% macro walk(n) %}{{ n }}{{ caller() }}{% if n %}{% call walk(n - 1) %}({{ n }}){% endcall %}{% endif %}{% endmacro %}{% call walk(3) %}*{% endcall %}",
    "{% call n() %}x{% endcall %}", "{% call missing() %}x{% endcall %}", "{% call n %}x{% endcall %}", "{{ caller is defined }}",
    "{% for k in [1, 2] %}{% macro in_loop(a) %}{{ a }}{{ k }}{% endmacro %}{{ in_loop('x') }}{% endfor %}", "{% macro outer(a) %}{% macro inner(b) %}{{ a }}{{ b }}{% if b %}{{ inner(b - 1) }}{% endif %}{% endmacro %}{{ inner(2) }}{% endmacro %}{{ outer('o') }}",
    "{% macro m(a, b, c=3) %}{{ a }}{{ b }}{{ c }}{% endmacro %}{{ m(*[1, 2]) }}{{ m(1, *[2], c=4) }}{{ m(**{'a': 1, 'b': 2}) }}{{ m(*[1], **{'b': 5}) }}", "{{ range(*[1, 4]) | list }}{{ dict(**{'k': 1}) }}", "{% macro m(a) %}{% endmacro %}{{ m(*5) }}", "{% macro m(a) %}{% endmacro %}{{ m(**[1]) }}", "{{ range(**{'a': 1}, 3) }}",
    "{% generation %}{% set q = 1 %}{{ q }}{% endgeneration %}[{{ q }}]", "{% for x in nums %}{% generation %}{{ loop.index }}{{ x }}{% endgeneration %}{% endfor %}", "{% for x in nums %}{% generation %}{% break %}{% endgeneration %}{% endfor %}",
    "{% for x in nums %}{{ loop.cycle('a', 'b') }}{% endfor %}", "{% if no %}{{ n | from_json }}{% endif %}ok", "{% if strftime_now is defined %}{{ strftime_now('%d') }}{% else %}no date{% endif %}",
    # Errors in the source.
    "{{ n", "{% if t %}", "{% if t %}x{% endfor %}", "{{ 'abc }}", "{{ (1 }}", "{{ 1 + }}", "{% for x nums %}{% endfor %}", "{% unknown %}", "{{ n | }}", "{{ n is }}", "{# open", "{% raw %}x", "{% set 1 = 2 %}", "{% set x %}", "{{ ] }}", "{{ n n }}", "{{ a.}}", "{{ @ }}", "{% endif %}", "{% else %}", "{% break %}", "{{ f(a=1, 2) }}", "{% macro m(a=1, b) %}{% endmacro %}", "{{ {1} }}",
    # Errors at work.
    "{{ raise_exception('stop here') }}", "{% if n > 5 %}{{ raise_exception('n is ' ~ n) }}{% endif %}", "{{ range(100001) | list | length }}", "{{ range(1, 10, 0) }}",
]


def cases(root):
    pocket = json.loads((root / "models/pocket/tokenizer_config.json").read_text())["chat_template"]
    whole = {"pocket": pocket, "llama_like": LLAMA_LIKE, "qwen_like": QWEN_LIKE, "mistral_like": MISTRAL_LIKE, "macros": MACROS}
    for (name, template), (input_name, data) in itertools.product(whole.items(), INPUTS.items()):
        yield f"{name}/{input_name}", template, data
    yield from template_families.cases()
    for number, line in enumerate(EXPRESSIONS.strip().splitlines()):
        # " | " separates expressions, and is also how filters are written: the pieces are joined where a filter follows.
        for k, expression in enumerate(split_expressions(line)):
            yield f"expression/{number}/{k}", "[{{ " + expression + " }}]", DATA
    for k, template in enumerate(STATEMENTS):
        yield f"statement/{k}", template, DATA


FILTERS = set(jinja2.filters.FILTERS) | {"tojson", "nofilter"}


def split_expressions(line):
    pieces = line.split(" | ")
    expressions = [pieces[0]]
    for piece in pieces[1:]:
        name = piece.split("(")[0].split(" ")[0].split(")")[0].split("]")[0]
        opened = expressions[-1].count("(") + expressions[-1].count("[") > expressions[-1].count(")") + expressions[-1].count("]")
        if opened or (name in FILTERS and name not in ("d",)) or piece.startswith("d("):
            expressions[-1] += " | " + piece
        else:
            expressions.append(piece)
    return expressions


def main(root, out):
    env = environment()
    counts = {"output": 0, "error": 0}
    with open(out, "w", encoding="utf-8", newline="\n") as file:
        file.write(json.dumps({"name": "DATA", "input": DATA}, ensure_ascii=False) + "\n")
        for name, template, data in cases(Path(root)):
            record = {"name": name, "template": template, "input": "DATA" if data is DATA else data}  # DATA: the first line
            try:
                record["output"] = env.from_string(template).render(**data)
            except Exception as error:  # what the engine must refuse as well
                record["error"] = type(error).__name__
            counts["output" if "output" in record else "error"] += 1
            file.write(json.dumps(record, ensure_ascii=False) + "\n")
    print(counts)


if __name__ == "__main__":
    main(*sys.argv[1:])
