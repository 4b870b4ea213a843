"""What is fuzzed. A check raises for an input that shows a fault. `number` decides on cuts, bounds and forms."""

from collections.abc import Callable, Mapping

from tests.fuzz.answers import check_decoder
from tests.fuzz.apis import check_messages, check_responses
from tests.fuzz.streams import check_parser, check_splitter

Check = Callable[[bytes, int], None]

TARGETS: Mapping[str, Check] = {
    "splitter": check_splitter,
    "parser": check_parser,
    "decoder": check_decoder,
    "responses": check_responses,
    "messages": check_messages,
}
