"""Names of HTML elements, by how a translation treats them."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


VOID = _names("area base br col embed frame hr img input link meta param source track wbr")
VERBATIM = _names("iframe noembed noframes plaintext script style textarea xmp")
"""Elements whose content is not markup."""
UNTRANSLATED = _names("code kbd math pre samp svg var")
BLOCKS = VERBATIM | _names(
    "address article aside audio base blockquote body br button canvas caption center col colgroup dd details "
    "dialog div dl dt embed fieldset figcaption figure footer form frame frameset h1 h2 h3 h4 h5 h6 head header "
    "hgroup hr html input label legend li link main menu meta nav noscript object ol optgroup option p param pre "
    "search section select source summary table tbody td template tfoot th thead title tr track ul video"
)
"""Elements that end a line of text; those with another name, also an unknown one, are inside it."""
INLINE = UNTRANSLATED | _names(
    "a abbr acronym b bdi bdo big cite data del dfn em font i ins mark q rp rt ruby slot small span strike strong "
    "sub sup time tt u"
)
"""Elements inside a line of text that HTML knows; not ``s``, because ``</s>`` is a control token of models."""
