"""The official clients of OpenAI, Anthropic and Ollama, and libraries on top of them, against `trine serve`.

`bench/clients.sh` makes the environment, starts the server with the model that is part of the program, and runs this:

    clients.py URL [OPENAPI]

OPENAPI is OpenAI's openapi.yaml: every response is then validated against it. What a client expects is asserted by its own types; here is
asserted that they are filled, and that all protocols give the same text.
"""

import json
import sys

import anthropic
import httpx
import instructor
import litellm
import ollama
import openai
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel, ConfigDict, Field

URL, SPEC = sys.argv[1], sys.argv[2] if len(sys.argv) > 2 else None
PROMPT = "Once upon a time"
ASK = [{"role": "user", "content": PROMPT}]
GREEDY = {"temperature": 0, "max_tokens": 12}
client = openai.OpenAI(base_url=f"{URL}/v1", api_key="none", max_retries=0)
NAME = client.models.list().data[0].id
TEXT = client.chat.completions.create(model=NAME, messages=ASK, **GREEDY).choices[0].message.content


def refused(call, kind):
    try:
        call()
    except kind as error:
        return error
    raise AssertionError(f"expected {kind.__name__}")


def openai_chat():
    chunks = list(client.chat.completions.create(model=NAME, messages=ASK, stream=True, stream_options={"include_usage": True}, **GREEDY))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == TEXT
    assert chunks[-1].usage.completion_tokens == 12 and chunks[-1].usage.total_tokens == 17
    whole = client.chat.completions.create(model=NAME, messages=ASK, n=2, seed=7, max_tokens=4, logprobs=True, top_logprobs=2)
    assert [choice.index for choice in whole.choices] == [0, 1]
    assert all(len(token.top_logprobs) == 2 for choice in whole.choices for token in choice.logprobs.content)
    error = refused(lambda: client.chat.completions.create(model=NAME, messages=ASK, temperature=-1), openai.BadRequestError)
    assert error.param == "temperature"
    refused(lambda: client.chat.completions.create(model="gpt-5", messages=ASK), openai.NotFoundError)
    error = refused(lambda: client.chat.completions.create(model=NAME, messages=[{"role": "user", "content": "word " * 900}]), openai.BadRequestError)
    assert error.code == "context_length_exceeded"


def openai_parse():
    class Age(BaseModel):
        age: int

    parsed = client.chat.completions.parse(model=NAME, messages=ASK, response_format=Age, temperature=0, max_tokens=100)
    assert isinstance(parsed.choices[0].message.parsed.age, int)


def openai_completions():
    whole = client.completions.create(model=NAME, prompt=[PROMPT, "The dog"], echo=True, logprobs=1, **GREEDY)
    assert whole.choices[0].text == PROMPT + TEXT and len(whole.choices) == 2
    assert whole.choices[0].logprobs.token_logprobs[0] is None
    chunks = list(client.completions.create(model=NAME, prompt=PROMPT, stream=True, **GREEDY))
    assert "".join(chunk.choices[0].text for chunk in chunks) == TEXT


def openai_responses():
    whole = client.responses.create(model=NAME, input=PROMPT, temperature=0, max_output_tokens=12)
    assert whole.output_text == TEXT and whole.status == "incomplete"
    with client.responses.stream(model=NAME, input=ASK, temperature=0, max_output_tokens=12) as stream:
        events = list(stream)
        text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
        assert text == TEXT
    # An answer that is cut off has no final response for this client.
    known = {"format": {"type": "json_schema", "name": "known", "schema": {"enum": ["yes", "no"]}, "strict": True}}
    with client.responses.stream(model=NAME, input=ASK, text=known) as stream:
        assert stream.get_final_response().output_text in ('"yes"', '"no"')
    assert [event.sequence_number for event in events] == list(range(len(events)))
    error = refused(lambda: client.responses.create(model=NAME, input=PROMPT, previous_response_id="resp_1"), openai.BadRequestError)
    assert error.param == "previous_response_id"


def openai_embeddings():
    model = client.models.list().data[-1].id
    found = client.embeddings.create(model=model, input=["the cat sat", "the dog ran"])
    # The client asks for base64, and decodes it.
    plain = client.embeddings.create(model=model, input="the cat sat", encoding_format="float")
    assert len(found.data) == 2 and all(abs(a - b) < 1e-6 for a, b in zip(found.data[0].embedding, plain.data[0].embedding))


def anthropic_messages():
    api = anthropic.Anthropic(base_url=URL, api_key="none", max_retries=0)
    # This client has no temperature any more.
    greedy = {"max_tokens": 12, "extra_body": {"temperature": 0}}
    whole = api.messages.create(model=NAME, messages=ASK, **greedy)
    assert whole.content[0].text == TEXT and whole.stop_reason == "max_tokens" and whole.usage.output_tokens == 12
    with api.messages.stream(model=NAME, messages=ASK, **greedy) as stream:
        assert "".join(stream.text_stream) == TEXT
        assert stream.get_final_message().usage.output_tokens == 12
    blocks = [{"role": "user", "content": [{"type": "text", "text": PROMPT}]}]
    assert api.messages.count_tokens(model=NAME, messages=blocks).input_tokens == 5
    refused(lambda: api.messages.create(model="claude", messages=ASK, max_tokens=1), anthropic.NotFoundError)
    refused(lambda: api.messages.create(model=NAME, messages=[], max_tokens=1), anthropic.BadRequestError)


def ollama_chat():
    api = ollama.Client(host=URL)
    options = {"temperature": 0, "num_predict": 12}
    assert api.chat(model=NAME, messages=ASK, options=options).message.content == TEXT
    parts = list(api.chat(model=NAME, messages=ASK, options=options, stream=True))
    assert "".join(part.message.content for part in parts) == TEXT and parts[-1].done and parts[-1].eval_count == 12
    assert api.generate(model=NAME, prompt=PROMPT, options=options).response == TEXT
    schema = {"type": "object", "properties": {"age": {"type": "integer"}}, "required": ["age"], "additionalProperties": False}
    form = api.chat(model=NAME, messages=ASK, format=schema, options={"temperature": 0, "num_predict": 100})
    assert "age" in json.loads(form.message.content)
    assert NAME in [model.model for model in api.list().models]
    assert api.show(NAME).capabilities and api.embed(model=api.list().models[-1].model, input="the cat sat").embeddings


def litellm_completion():
    answer = litellm.completion(f"openai/{NAME}", messages=ASK, api_base=f"{URL}/v1", api_key="none", **GREEDY)
    assert answer.choices[0].message.content == TEXT
    stream = litellm.completion(f"openai/{NAME}", messages=ASK, api_base=f"{URL}/v1", api_key="none", stream=True, **GREEDY)
    assert "".join(chunk.choices[0].delta.content or "" for chunk in stream) == TEXT


def langchain():
    chat = ChatOpenAI(model=NAME, base_url=f"{URL}/v1", api_key="none", **GREEDY)
    assert chat.invoke(PROMPT).content == TEXT
    assert "".join(part.content for part in chat.stream(PROMPT)) == TEXT
    embeddings = OpenAIEmbeddings(model=client.models.list().data[-1].id, base_url=f"{URL}/v1", api_key="none", check_embedding_ctx_length=False)
    assert len(embeddings.embed_query("the cat sat")) > 0


def instructor_structured():
    class Animal(BaseModel):
        model_config = ConfigDict(extra="forbid")
        name: str = Field(max_length=20)
        legs: int = Field(le=8)

    api = instructor.from_openai(client, mode=instructor.Mode.JSON_SCHEMA)
    animal = api.chat.completions.create(model=NAME, messages=ASK, response_model=Animal, temperature=0, max_tokens=200, max_retries=0)
    assert isinstance(animal.legs, int)


def every_response_is_in_the_specification():
    if SPEC is None:
        return print("skipped: no openapi.yaml was named")
    import yaml
    from jsonschema import Draft202012Validator

    def modern(part):
        """`nullable` of OpenAPI 3.0, which the specification has here and there, in the words of JSON Schema."""
        if isinstance(part, list):
            return [modern(one) for one in part]
        if not isinstance(part, dict):
            return part
        part = {key: modern(value) for key, value in part.items()}
        return {"anyOf": [part, {"type": "null"}]} if part.pop("nullable", False) is True else part

    spec = modern(yaml.safe_load(open(SPEC, encoding="utf-8")))

    def check(schema, value, where):
        root = {"$ref": f"#/components/schemas/{schema}", "components": spec["components"]}
        errors = list(Draft202012Validator(root).iter_errors(value))
        assert not errors, f"{where}: {[error.message[:300] for error in errors[:3]]}"

    def events(path, body):
        with httpx.stream("POST", f"{URL}{path}", json={**body, "stream": True}, timeout=60) as response:
            data = [line[6:] for line in response.iter_lines() if line.startswith("data: ")]
        return [json.loads(text) for text in data if text != "[DONE]"]

    def post(path, body):
        return httpx.post(f"{URL}{path}", json=body, timeout=60).json()

    chat = {"messages": ASK, "logprobs": True, "top_logprobs": 2, **GREEDY}
    check("CreateChatCompletionResponse", post("/v1/chat/completions", chat), "chat")
    for chunk in events("/v1/chat/completions", chat):
        check("CreateChatCompletionStreamResponse", {key: value for key, value in chunk.items() if value is not None}, "chunk")
    for body in (chat, {"messages": ASK, "response_format": {"type": "json_object"}, "max_tokens": 50}):
        check("CreateChatCompletionResponse", post("/v1/chat/completions", body), "chat")
    check("CreateCompletionResponse", post("/v1/completions", {"prompt": PROMPT, "logprobs": 1, **GREEDY}), "completion")
    response = {"input": PROMPT, "temperature": 0, "max_output_tokens": 12}
    check("Response", post("/v1/responses", response), "response")
    for event in events("/v1/responses", response):
        check("ResponseStreamEvent", event, event["type"])
    check("ListModelsResponse", httpx.get(f"{URL}/v1/models").json(), "models")
    check("Model", httpx.get(f"{URL}/v1/models/{NAME}").json(), "model")
    check("CreateEmbeddingResponse", post("/v1/embeddings", {"input": "the cat sat"}), "embedding")
    for body in ({}, {"messages": ASK, "n": 0}, {"messages": ASK, "model": "x"}):
        check("ErrorResponse", post("/v1/chat/completions", body), "error")


if __name__ == "__main__":
    failed = 0
    for test in (
        openai_chat, openai_parse, openai_completions, openai_responses, openai_embeddings, anthropic_messages, ollama_chat, litellm_completion,
        langchain, instructor_structured, every_response_is_in_the_specification,
    ):
        try:
            test()
            print(f"ok      {test.__name__}")
        except Exception as error:  # what a client raises is told with its test
            failed += 1
            print(f"FAILED  {test.__name__}: {type(error).__name__}: {str(error)[:1500]}")
    sys.exit(failed > 0)
