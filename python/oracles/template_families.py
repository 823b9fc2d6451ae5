"""Chat templates written for the tests, one for each family of published ones, with the constructs that family uses; and
the conversations that each is rendered with. Only the control tokens are the models'."""

LLAMA2 = """{% if messages[0]['role'] == 'system' %}{% set rest = messages[1:] %}{% set intro = messages[0]['content'] %}{% else %}{% set rest = messages %}{% set intro = false %}{% endif %}
{%- for m in rest %}{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('turns: user, then assistant') }}{% endif %}
{%- if loop.index0 == 0 and intro != false %}{% set body = '<<SYS>>\\n' + intro + '\\n<</SYS>>\\n\\n' + m['content'] %}{% else %}{% set body = m['content'] %}{% endif %}
{%- if m['role'] == 'user' %}{{ bos_token + '[INST] ' + body.strip() + ' [/INST]' }}{% elif m['role'] == 'assistant' %}{{ ' ' + body.strip() + ' ' + eos_token }}{% endif %}{% endfor %}"""

LLAMA3 = """{{- bos_token }}
{%- if custom_tools is defined %}{%- set tools = custom_tools %}{%- endif %}
{%- if not in_user is defined %}{%- set in_user = true %}{%- endif %}
{%- if not today is defined %}
    {%- if strftime_now is defined %}{%- set today = strftime_now("%d %b %Y") %}{%- else %}{%- set today = "1 May 2020" %}{%- endif %}
{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set intro = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
{%- else %}
    {%- set intro = "" %}
{%- endif %}
{{- "<|start_header_id|>system<|end_header_id|>\\n\\n" }}
{%- if builtin is defined or tools is not none %}{{- "Shell: on\\n" }}{%- endif %}
{%- if builtin is defined %}{{- "Has: " + builtin | reject('equalto', 'shell') | join(", ") + "\\n\\n" }}{%- endif %}
{{- "Day: " + today + "\\n\\n" }}
{%- if tools is not none and not in_user %}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
{%- endif %}
{{- intro }}{{- "<|eot_id|>" }}
{%- if in_user and not tools is none %}
    {%- if messages | length != 0 %}
        {%- set first = messages[0]['content']|trim %}{%- set messages = messages[1:] %}
    {%- else %}{{- raise_exception("no first turn to put the tools in") }}{%- endif %}
    {{- '<|start_header_id|>user<|end_header_id|>\\n\\n' -}}
    {%- for t in tools %}{{- t | tojson(indent=4) }}{{- "\\n\\n" }}{%- endfor %}
    {{- first + "<|eot_id|>"}}
{%- endif %}
{%- for message in messages %}
    {%- if not (message.role == 'ipython' or message.role == 'tool' or 'tool_calls' in message) %}
        {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n'+ message['content'] | trim + '<|eot_id|>' }}
    {%- elif 'tool_calls' in message %}
        {%- if not message.tool_calls|length == 1 %}{{- raise_exception("one call a turn") }}{%- endif %}
        {%- set call = message.tool_calls[0].function %}
        {%- if builtin is defined and call.name in builtin %}
            {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}{{- "<|python_tag|>" + call.name + ".call(" }}
            {%- for name, val in call.arguments | items %}{{- name + '="' + val + '"' }}{%- if not loop.last %}{{- ", " }}{%- endif %}{%- endfor %}
            {{- ")" }}
        {%- else  %}
            {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' -}}
            {{- '{"name": "' + call.name + '", ' }}{{- '"parameters": ' }}{{- call.arguments | tojson }}{{- "}" }}
        {%- endif %}
        {%- if builtin is defined %}{{- "<|eom_id|>" }}{%- else %}{{- "<|eot_id|>" }}{%- endif %}
    {%- else %}
        {{- "<|start_header_id|>ipython<|end_header_id|>\\n\\n" }}
        {%- if message.content is mapping or message.content is iterable %}{{- message.content | tojson }}{%- else %}{{- message.content }}{%- endif %}
        {{- "<|eot_id|>" }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{%- endif %}
"""

MISTRAL = """{%- if messages[0]["role"] == "system" %}
    {%- set intro = messages[0]["content"] %}{%- set turns = messages[1:] %}
{%- else %}{%- set turns = messages %}{%- endif %}
{%- if not tools is defined %}{%- set tools = none %}{%- endif %}
{%- set asked = turns | selectattr("role", "equalto", "user") | list %}
{%- set ns = namespace() %}{%- set ns.index = 0 %}
{%- for message in turns %}
    {%- if not (message.role == "tool" or message.role == "tool_results" or (message.tool_calls is defined and message.tool_calls is not none)) %}
        {%- if (message["role"] == "user") != (ns.index % 2 == 0) %}{{- raise_exception("turns must alternate") }}{%- endif %}
        {%- set ns.index = ns.index + 1 %}
    {%- endif %}
{%- endfor %}
{{- bos_token }}
{%- for message in turns %}
    {%- if message["role"] == "user" %}
        {%- if tools is not none and (message == asked[-1]) %}
            {{- "[AVAILABLE_TOOLS][" }}
            {%- for tool in tools %}
                {%- set tool = tool.function %}{{- '{"type": "function", "function": {' }}
                {%- for key, val in tool.items() if key != "return" %}
                    {%- if val is string %}{{- '"' + key + '": "' + val + '"' }}{%- else %}{{- '"' + key + '": ' + val|tojson }}{%- endif %}
                    {%- if not loop.last %}{{- ", " }}{%- endif %}
                {%- endfor %}
                {{- "}}" }}{%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" }}{%- endif %}
            {%- endfor %}
            {{- "[/AVAILABLE_TOOLS]" }}
        {%- endif %}
        {%- if loop.last and intro is defined %}{{- "[INST]" + intro + "\\n\\n" + message["content"] + "[/INST]" }}{%- else %}{{- "[INST]" + message["content"] + "[/INST]" }}{%- endif %}
    {%- elif message.tool_calls is defined and message.tool_calls is not none %}
        {{- "[TOOL_CALLS][" }}
        {%- for call in message.tool_calls %}
            {%- set out = call.function|tojson %}{{- out[:-1] }}
            {%- if not call.id is defined or call.id|length != 9 %}{{- raise_exception("an id has nine letters") }}{%- endif %}
            {{- ', "id": "' + call.id + '"}' }}{%- if not loop.last %}{{- ", " }}{%- else %}{{- "]" + eos_token }}{%- endif %}
        {%- endfor %}
    {%- elif message["role"] == "assistant" %}{{- message["content"] + eos_token}}
    {%- elif message["role"] == "tool_results" or message["role"] == "tool" %}
        {%- if message.content is defined and message.content.content is defined %}{%- set content = message.content.content %}{%- else %}{%- set content = message.content %}{%- endif %}
        {{- '[TOOL_RESULTS]{"content": ' + content|string + ", " }}
        {%- if not message.tool_call_id is defined or message.tool_call_id|length != 9 %}{{- raise_exception("a result names its call") }}{%- endif %}
        {{- '"call_id": "' + message.tool_call_id + '"}[/TOOL_RESULTS]' }}
    {%- else %}{{- raise_exception("a role of another kind") }}{%- endif %}
{%- endfor %}
"""

GEMMA = """{{ bos_token }}{%- if messages[0]['role'] == 'system' -%}
    {%- if messages[0]['content'] is string -%}{%- set prefix = messages[0]['content'] + '\\n\\n' -%}{%- else -%}{%- set prefix = messages[0]['content'][0]['text'] + '\\n\\n' -%}{%- endif -%}
    {%- set turns = messages[1:] -%}
{%- else -%}{%- set prefix = "" -%}{%- set turns = messages -%}{%- endif -%}
{%- for message in turns -%}
    {%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception("turns: user, model, ...") }}{%- endif -%}
    {%- if (message['role'] == 'assistant') -%}{%- set role = "model" -%}{%- else -%}{%- set role = message['role'] -%}{%- endif -%}
    {{ '<start_of_turn>' + role + '\\n' + (prefix if loop.first else "") }}
    {%- if message['content'] is string -%}{{ message['content'] | trim }}
    {%- elif message['content'] is iterable -%}
        {%- for item in message['content'] -%}
            {%- if item['type'] == 'image' -%}{{ '<start_of_image>' }}{%- elif item['type'] == 'text' -%}{{ item['text'] | trim }}{%- endif -%}
        {%- endfor -%}
    {%- else -%}{{ raise_exception("content of no known kind") }}{%- endif -%}
    {{ '<end_of_turn>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{'<start_of_turn>model\\n'}}{%- endif -%}
"""

PHI = """{% for message in messages %}{% if message['role'] == 'system' and 'tools' in message and message['tools'] is not none %}{{ '<|' + message['role'] + '|>' + message['content'] + '<|tool|>' + message['tools'] + '<|/tool|>' + '<|end|>' }}{% elif message['role'] == 'system' and message['content'] %}{{'<|system|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'user' %}{{'<|user|>\\n' + message['content'] + '<|end|>\\n'}}{% elif message['role'] == 'assistant' %}{{'<|assistant|>\\n' + message['content'] + '<|end|>\\n'}}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% else %}{{ eos_token }}{% endif %}"""

GRANITE = """{%- if messages[0]['role'] == 'system' %}
    {%- set intro = messages[0]['content'] %}{%- set turns = messages[1:] %}
{%- else %}
    {%- set intro = "Short answers." %}
    {%- if tools and documents %}{%- set intro = intro + " Tools and documents." %}
    {%- elif tools %}{%- set intro = intro + " Tools." %}
    {%- elif documents %}{%- set intro = intro + " Documents." %}
    {%- elif thinking %}{%- set intro = intro + " Think first." %}{%- endif %}
    {%- if 'citations' in controls and documents %}{%- set intro = intro + ' Cite.' %}{%- endif %}
    {%- if 'length' in controls %}{%- set intro = intro + ' Be ' + controls['length'] + '.' %}{%- endif %}
    {%- set turns = messages %}
{%- endif %}
{{- '<|start_of_role|>system<|end_of_role|>' + intro + '<|end_of_text|>\\n' }}
{%- if tools %}{{- '<|start_of_role|>tools<|end_of_role|>' }}{{- tools | tojson(indent=4) }}{{- '<|end_of_text|>\\n' }}{%- endif %}
{%- if documents %}
    {{- '<|start_of_role|>documents<|end_of_role|>' }}
    {%- for document in documents %}
        {{- 'Document ' + loop.index0 | string + '\\n' }}{{- document['text'] }}{%- if not loop.last %}{{- '\\n\\n'}}{%- endif %}
    {%- endfor %}
    {{- '<|end_of_text|>\\n' }}
    {%- for document in documents %}{{- '<|start_of_role|>document {"document_id": "' + document['doc_id'] | string + '"}<|end_of_role|>\\n' + document['text'] + '<|end_of_text|>\\n' }}{%- endfor %}
{%- endif %}
{%- for message in turns %}
    {{- '<|start_of_role|>' + message['role'] + '<|end_of_role|>' + message['content'] + '<|end_of_text|>\\n' }}
    {%- if loop.last and add_generation_prompt %}
        {{- '<|start_of_role|>assistant' }}{%- if controls %}{{- ' ' + controls | tojson() }}{%- endif %}{{- '<|end_of_role|>' }}
    {%- endif %}
{%- endfor %}"""

HERMES = """{%- macro type_of(spec) %}
{%- set basic = {"string": "str", "number": "float", "integer": "int", "boolean": "bool"} %}
{%- if basic[spec.type] is defined %}{{- basic[spec.type] }}
{%- elif spec.type == "array" %}{{- "list[" + type_of(spec["items"]) + "]" }}
{%- elif spec.type == "object" %}
    {%- if spec.additionalProperties is defined %}{{- "dict[str, " + type_of(spec.additionalProperties) + ']' }}{%- else %}{{- "dict" }}{%- endif %}
{%- elif spec.type is iterable and spec.type is not string %}
    {{- "Union[" }}{%- for t in spec.type %}{{- type_of({"type": t}) }}{%- if not loop.last %}{{- "," }}{%- endif %}{%- endfor %}{{- "]" }}
{%- else %}{{- "Any" }}{%- endif %}
{%- endmacro %}
{{- bos_token }}{{- "<|im_start|>system\\n<tools> " }}
{%- for tool in tools or [] %}
    {%- if tool.function is defined %}{%- set tool = tool.function %}{%- endif %}
    {{- '{"type": "function", "function": ' }}{{- '{"name": "' + tool.name + '", ' }}{{- '"description": "' + tool.name + '(' }}
    {%- for name, spec in tool.parameters.properties|items %}{{- name + ": " + type_of(spec) }}{%- if not loop.last %}{{- ", " }}{%- endif %}{%- endfor %}
    {{- ")" }}
    {%- if tool.return is defined %}{{- " -> " + type_of(tool.return) }}{%- endif %}
    {{- " - " + (tool.description | default("?")) + "\\n\\n" }}
    {%- for name, spec in tool.parameters.properties|items %}
        {%- if loop.first %}{{- "    Args:\\n" }}{%- endif %}
        {{- "        " + name + "(" + type_of(spec) + "): " + spec.description|default('')|trim }}
    {%- endfor %}
    {{- '", "parameters": ' }}
    {%- if tool.parameters.properties | length == 0 %}{{- "{}" }}{%- else %}{{- tool.parameters|tojson }}{%- endif %}
    {{- "}" }}{%- if not loop.last %}{{- "\\n" }}{%- endif %}
{%- endfor %}
{{- " </tools><|im_end|>\\n" }}
{%- for message in messages %}
    {%- if message.role == "user" or message.role == "system" or (message.role == "assistant" and message.tool_calls is not defined) %}
        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
    {%- elif message.role == "assistant" %}
        {{- '<|im_start|>' + message.role }}
        {%- for call in message.tool_calls %}
            {{- '\\n<tool_call>\\n' }}{%- if call.function is defined %}{%- set call = call.function %}{%- endif %}
            {{- '{"name": "' }}{{- call.name }}{{- '", "arguments": ' }}{{- call.arguments|tojson }}{{- '}\\n</tool_call>' }}
        {%- endfor %}
        {{- '<|im_end|>\\n' }}
    {%- elif message.role == "tool" %}
        {%- if loop.previtem and loop.previtem.role != "tool" %}{{- '<|im_start|>tool\\n' }}{%- endif %}
        {{- '<tool_response>\\n' }}{{- message.content }}
        {%- if not loop.last %}{{- '\\n</tool_response>\\n' }}{%- else %}{{- '\\n</tool_response>' }}{%- endif %}
        {%- if not loop.last and loop.nextitem.role != "tool" %}{{- '<|im_end|>' }}{%- elif loop.last %}{{- '<|im_end|>' }}{%- endif %}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}
"""

DEEPSEEK = """{% if not add_generation_prompt is defined %}{% set add_generation_prompt = false %}{% endif %}{% if not thinking is defined %}{% set thinking = false %}{% endif %}{% set ns = namespace(first=true, tool=false, intro='', begun=true, user=false) %}{%- for message in messages %}{%- if message['role'] == 'system' %}{%- if ns.begun %}{% set ns.intro = ns.intro + message['content'] %}{% set ns.begun = false %}{%- else %}{% set ns.intro = ns.intro + '\\n\\n' + message['content'] %}{%- endif %}{%- endif %}{%- endfor %}{{ bos_token }}{{ ns.intro }}{%- for message in messages %}{%- if message['role'] == 'user' %}{%- set ns.tool = false -%}{%- set ns.user = true -%}{{'<｜User｜>' + message['content']}}{%- endif %}{%- if message['role'] == 'assistant' and message['tool_calls'] is defined and message['tool_calls'] is not none %}{%- if ns.user %}{{'<｜Assistant｜></think>'}}{%- endif %}{%- set ns.user = false -%}{%- set ns.first = true %}{%- set ns.tool = false -%}{%- for call in message['tool_calls'] %}{%- if ns.first %}{%- if message['content'] is none %}{{'<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + call['function']['name'] + '<｜tool▁sep｜>' + call['function']['arguments'] + '<｜tool▁call▁end｜>'}}{%- else %}{{message['content'] + '<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>' + call['function']['name'] + '<｜tool▁sep｜>' + (call['function']['arguments'] | tojson) + '<｜tool▁call▁end｜>'}}{%- endif %}{%- set ns.first = false -%}{%- else %}{{'<｜tool▁call▁begin｜>' + call['function']['name'] + '<｜tool▁call▁end｜>'}}{%- endif %}{%- endfor %}{{'<｜tool▁calls▁end｜><｜end▁of▁sentence｜>'}}{%- endif %}{%- if message['role'] == 'assistant' and (message['tool_calls'] is not defined or message['tool_calls'] is none) %}{%- if ns.user %}{{'<｜Assistant｜>'}}{%- if message['prefix'] is defined and message['prefix'] and thinking %}{{'<think>'}}{%- else %}{{'</think>'}}{%- endif %}{%- endif %}{%- set ns.user = false -%}{%- set content = message['content'] -%}{%- if '</think>' in content %}{%- set content = content.split('</think>', 1)[1] -%}{%- endif %}{{content + '<｜end▁of▁sentence｜>'}}{%- endif %}{%- if message['role'] == 'tool' %}{%- set ns.user = false -%}{%- set ns.tool = true -%}{{'<｜tool▁output▁begin｜>' + message['content'] + '<｜tool▁output▁end｜>'}}{%- endif %}{%- endfor -%}{%- if add_generation_prompt and ns.user and not ns.tool %}{{'<｜Assistant｜>'}}{%- if not thinking %}{{'</think>'}}{%- else %}{{'<think>'}}{%- endif %}{% endif %}"""

SMOLLM = """{# thinks unless told otherwise #}
{%- if enable_thinking is not defined -%}{%- set enable_thinking = true -%}{%- endif -%}
{%- set mode = "/think" if enable_thinking else "/no_think" -%}
{{- "<|im_start|>system\\n" -}}
{%- if messages[0].role == "system" -%}
  {%- set intro = messages[0].content -%}
  {%- if "/no_think" in intro -%}{%- set mode = "/no_think" -%}{%- elif "/think" in intro -%}{%- set mode = "/think" -%}{%- endif -%}
  {%- set note = intro.replace("/no_think", "").replace("/think", "").rstrip() -%}
{%- endif -%}
{%- if "/override" in intro -%}{{- note.replace("/override", "").rstrip() -}}
{%- else -%}
  {{- "Mode: " + mode + "\\n\\n" -}}{{- (note if note else "Be " ~ mode[1:]) + "\\n\\n" -}}
  {%- if xml_tools or python_tools or tools -%}{{- "### Tools\\n\\n" -}}
    {%- if xml_tools or tools -%}
      {%- if tools -%}{%- set xml_tools = tools -%}{%- endif -%}
      {%- set ns = namespace(text="<tools>\\n") -%}
      {%- for tool in xml_tools[:] -%}{%- set ns.text = ns.text ~ (tool | string) ~ "\\n" -%}{%- endfor -%}
      {{- ns.text + "</tools>" + "\\n\\n" -}}
    {%- endif -%}
  {%- endif -%}
{%- endif -%}
{{- "<|im_end|>\\n" -}}
{%- for message in messages -%}
  {%- set content = message.content if message.content is string else "" -%}
  {%- if message.role == "user" -%}{{- "<|im_start|>" + message.role + "\\n" + content + "<|im_end|>\\n" -}}
  {%- elif message.role == "assistant" -%}
    {% generation %}
    {%- if mode == "/think" -%}
      {{- "<|im_start|>assistant\\n" + content.lstrip("\\n") + "<|im_end|>\\n" -}}
    {%- else -%}
      {%- set inner = content.lstrip("\\n") -%}{{- "<|im_start|>assistant\\n" + "<think>\\n\\n</think>\\n" + inner + "<|im_end|>\\n" -}}
    {%- endif -%}
    {% endgeneration %}
  {%- elif message.role == "tool" -%}{{- "<|im_start|>user\\n" + content + "<|im_end|>\\n" -}}
  {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{%- if mode == "/think" -%}{{ "<|im_start|>assistant\\n" }}{%- else -%}{{ "<|im_start|>assistant\\n<think>\\n\\n</think>\\n" }}{%- endif -%}{%- endif -%}[{{ inner }}]"""

COMMAND_R = """{%- macro show(doc, indent=0) %}{% for key, value in doc.items() %}{{ '\\n' if not loop.first }}{{ ' ' * indent }}{{ key|title }}: {{ value }}{% endfor %}{% endmacro %}
{{- bos_token }}{% if messages[0]['role'] == 'system' %}{% set turns = messages[1:] %}{% set intro = messages[0]['content'] %}{% else %}{% set turns = messages %}{% set intro = 'Plain words.' %}{% endif %}
{{- '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>' }}{{ intro }}{{ '<|END_OF_TURN_TOKEN|>' }}
{%- for message in turns %}{%- set content = message['content'] %}
{%- if message['role'] == 'user' %}{{ '<|START_OF_TURN_TOKEN|><|USER_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' }}
{%- elif message['role'] == 'assistant' %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' + content.strip() + '<|END_OF_TURN_TOKEN|>' }}{% endif %}{% endfor %}
{%- if documents %}{{ '<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|><results>' }}{% for document in documents %}{{ '\\nDocument: ' }}{{ loop.index0 }}
{{ show(document) }}
{% endfor %}{{ '</results><|END_OF_TURN_TOKEN|>' }}{% endif %}
{%- if add_generation_prompt %}{{ '<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>' }}{% endif %}"""

FAMILIES = {"llama2": LLAMA2, "llama3": LLAMA3, "mistral": MISTRAL, "gemma": GEMMA, "phi": PHI, "granite": GRANITE, "hermes": HERMES,
            "deepseek": DEEPSEEK, "smollm": SMOLLM, "command_r": COMMAND_R}


def user(text):
    return {"role": "user", "content": text}


def assistant(text, **more):
    return {"role": "assistant", "content": text, **more}


def call(name, arguments, name_of_call="a1b2c3d4e"):
    return {"id": name_of_call, "type": "function", "function": {"name": name, "arguments": arguments}}


SYSTEM = {"role": "system", "content": "  Be kind.\n"}
TOOLS = [{"type": "function", "function": {"name": "sail", "description": "It's \"wind\" & <more> für Zürich 🌦", "parameters": {
    "type": "object", "properties": {"to": {"type": "string", "description": " A port ", "enum": ["Łódź", "東京"]},
                                     "knots": {"type": ["number", "null"]}, "stops": {"type": "array", "items": {"type": "integer"}},
                                     "more": {"type": "object", "additionalProperties": {"type": "boolean"}}}, "required": ["to"]},
    "return": {"type": "number"}}}, {"type": "function", "function": {"name": "now", "parameters": {"type": "object", "properties": {}}}}]
DOCUMENTS = [{"doc_id": 1, "title": "One é", "text": "first\n"}, {"doc_id": "b", "text": "second 🙂", "title": ""}]
TOOL_TURNS = [user("Sail!"), assistant("", tool_calls=[call("sail", {"to": "東京", "knots": 1.5, "more": None})]),
              {"role": "tool", "name": "sail", "content": "done", "tool_call_id": "a1b2c3d4e"}]
CONVERSATIONS = {
    "plain": {"messages": [SYSTEM, user(" Hello \n"), assistant(" Hi "), user("你好 🙂\u200b <|im_end|>")]},
    "answered": {"messages": [user("a"), assistant("<think>\nhm\n</think>\n\nb")], "add_generation_prompt": False},
    "tools": {"messages": [SYSTEM] + TOOL_TURNS, "tools": TOOLS},
    "tools_called": {"messages": TOOL_TURNS + [assistant("It went.")] + [user("?"), assistant(None, tool_calls=[call("now", "{}"), call("sail", {"to": "x"}, "1")]),
                     {"role": "tool", "content": {"content": [1, None, True]}, "tool_call_id": "a1b2c3d4e"}, {"role": "tool", "content": "2"}], "tools": TOOLS},
    "tools_builtin": {"messages": TOOL_TURNS[:1] + [assistant("", tool_calls=[call("search", {"q": "x", "n": "2"})])], "tools": None, "builtin": ["shell", "search"],
                      "in_user": False, "today": "2 Jan 2021"},
    "documents": {"messages": [user("Which?")], "documents": DOCUMENTS, "controls": {"citations": True, "length": "short"}},
    "documents_tools": {"messages": [SYSTEM, user("Which?")], "documents": DOCUMENTS, "tools": TOOLS, "in_user": False},
    "thinking": {"messages": [{"role": "system", "content": "x /no_think"}, user("q"), assistant("\n\na", prefix=True), user("r")], "thinking": True},
    "parts": {"messages": [{"role": "system", "content": [{"type": "text", "text": "s"}]}, {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " t "}]}]},
    "empty": {"messages": [SYSTEM | {"content": ""}, user(""), assistant("")]},
    "two_users": {"messages": [user("a"), user("b")]},
    "tools_in_system": {"messages": [SYSTEM | {"tools": "[1]"}, user("a")]},
    "no_content": {"messages": [user("a"), {"role": "assistant"}, user(None)]},
    "none": {"messages": []},
}


def cases():
    for family, template in FAMILIES.items():
        for name, given in CONVERSATIONS.items():
            common = {"bos_token": "<s>", "eos_token": "</s>", "tools": None, "documents": None, "add_generation_prompt": True}
            yield f"{family}/{name}", template, common | given
