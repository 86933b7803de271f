"""What schemathesis cannot learn from an OpenAPI document, told to it by SCHEMATHESIS_HOOKS."""

import re
from typing import Any, Final

import schemathesis
from schemathesis import Case, HookContext, Response

REFUSES_TENSORS: Final = (
    r"An input is missing|The inputs have|The shape of input|Input \d+ (must have data|is not known|has the name of)|"
    r"Output \d+ has the name of|One input for all columns has|The (data|datatype|value|bytes) of |"
    r"An element of the input|The binary data is|The request is not valid: inputs\.\d+\.parameters\.binary_data_size"
)


@schemathesis.hook  # type: ignore[untyped-decorator, unused-ignore]
def filter_failure(context: HookContext, failure: Exception, case: Case[Any], response: Response) -> bool:  # noqa: ARG001
    """Accept that a query and a body, each of which is valid, are refused together for what they contradict.

    So are more houses than may be explained, and tensors: no schema can state that there are as many elements as the
    shape has, or that there is an input for each column.
    """
    if type(failure).__name__ != "RejectedPositiveData":
        return True
    if response.status_code == 400 and case.path.endswith("/infer"):
        return not re.match(REFUSES_TENSORS, response.json()["error"])
    if response.status_code != 422:
        return True
    found, beside = [problem["type"] for problem in response.json().get("detail", ())], asked(case.body)
    contradicts = any(differs(value, case.query[name]) for name, value in beside.items() if name in case.query)
    explains = str(case.query.get("explain")).lower() == "true" or beside.get("explain") is True
    return not ((found == ["contradiction"] and contradicts) or (found == ["too_long"] and explains))


def asked(body: object) -> dict[str, Any]:
    """The options that a body has."""
    found = body if isinstance(body, dict) else {}
    names = ("confidence", "model_version", "explain", "comparables")
    return {name: found[name] for name in names if found.get(name) is not None}


def differs(value: object, in_query: object) -> bool:
    """Whether an option of the body is another than that of the query, which may be text."""
    return str(value).lower() != str(in_query).lower() and value != in_query
