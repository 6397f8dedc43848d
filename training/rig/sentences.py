"""What the synthetic voices say: our own English sentences, from phrases that together hold every phone.

`sentence(k)` is the same text for the same number everywhere, so a clip can name its sentence by number. Numbers are
written in words and abbreviations left out, so that every voice reads the same phones.
"""

from __future__ import annotations

import numpy as np

PLAIN = """
Good morning, everybody, can you hear me now?
Let me move the camera up a little bit.
We will begin in about five minutes.
Thank you for coming, it means a lot to me.
I put the blue map back above the bookshelf.
My mother baked a plum pie for the village fair.
Please be patient while the movie loads.
Above all, remember to bring your membership badge.
The fish van leaves the harbour before five.
Have you ever thought about moving further north?
That was the thing they both wanted to say.
She chose a small shop with a cheerful yellow door.
The judge asked a simple question and waited.
Oh boy, look at the size of that boulder!
Our new office has a huge window and a noisy fan.
Who would have guessed that the bamboo would grow so fast?
Pull the rope, push the lever, and hope for the best.
Something about this measure feels wrong to me.
The usual pleasure of a quiet evening was gone.
Maybe we should ask Bob before we buy the boat.
I am so happy to see you again after all these months!
Stop it, both of you, this has gone far enough.
It smells like somebody burned the milk again.
I am afraid the bridge may not hold us much longer.
We lost the match, and nobody felt like talking.
Could you pass me the paper cup, please?
Five brave firemen saved the family from the flood.
Her voice was calm, but her hands were shaking.
The wolf and the fox live on opposite sides of the valley.
A warm loaf of bread and a bowl of soup, that is all I need.
Watch the moon rise over the empty bay.
You choose the music and I will choose the food.
Every April we paint the bathroom a different shade of pink.
The baby bubbles and bounces whenever the puppy barks.
Mum, Papa, come and look at my beautiful balloon!
Both brothers breathe through their mouths.
They gathered wool and leather for the winter.
Joy asked George to join the jury in June.
The young lawyer used a very unusual argument.
I think this path leads through the north gate.
Vivian never visits the village in November.
Zoe's cousin chose a dozen roses as a prize.
What if we simply walked home instead?
Nothing ever happens before breakfast around here.
Keep going, keep going, you are almost at the top.
There is a lovely little library on Willow Lane.
He coughed, laughed, and finally told us the truth.
Remember that the meeting moved from Monday to Thursday.
Should I turn the volume up or down?
No, no, no, I did not mean it that way.
The robber grabbed the copper pot and ran.
Sharp scissors and short sleeves do not mix.
Beyond the hedge, a huge engine began to hum.
How now can a cow be so proud of its shadow?
My boy enjoys the noise of oil boiling in the pan.
I would rather be early than hurry all the way.
Perhaps the problem is the battery, not the lamp.
The weather report promises rain, wind, and more rain.
Give me a moment to find the proper page.
It is impossible to be unhappy with ice cream in your hand.
""".strip().splitlines()

WHO = """my brother|the baker|Barbara|our manager|a famous poet|the young teacher|her best friend|Mister Murphy
the whole family|the old fisherman|every neighbour|the new engineer|Rebecca|my uncle Phil|the mayor|a shy visitor
the ambulance driver|our choir|their football team|the piano player|Victoria|Thomas|the weatherman|a beautiful woman
the judge|the puppy|somebody from the museum|the shopkeeper|a group of pupils|the bishop""".replace("\n", "|").split(
    "|"
)
DID = """bought|borrowed|painted|found|forgot|measured|polished|brought|wanted|described|pushed|remembered|opened|moved
photographed|wrapped|noticed|lifted|admired|chose|followed|believed in|laughed about|talked about|complained about
waited for|jumped over|looked behind|pointed at|thought of""".replace("\n", "|").split("|")
THING = (
    """the purple umbrella|a pair of brown boots|five paper boats|the oval mirror|a bowl of peppermints|the broken lamp
a huge map of Africa|the wooden chair|a yellow bicycle|three jars of honey|the empty bottle|a very thin book
the birthday cake|a small bomb shelter|the leather jacket|both of the photographs|an old violin|some fresh vegetables
the north tower|a rubber ball|the television|a thousand feathers|the public swimming pool|the magic carpet
a few cheap matches|the bubbling soup|this awful joke|that foolish promise|a cup of warm milk|the unusual vase
""".strip()
    .replace("\n", "|")
    .split("|")
)
WHERE = (
    """in the bathroom|above the shop|by the river|behind the church|on a foggy morning|before breakfast|at the museum
near the playground|under the maple tree|in the middle of November|after the football match|beneath the bridge
without a single word|for the first time|on the way home|from the bottom of the lake|with both hands|through the fence
at the end of the month|between two buses|for about five hours|as soon as possible|on Thursday|with a happy smile
over the weekend|in spite of the storm|for no good reason|beside the fireplace|in the village|during the summer
""".strip()
    .replace("\n", "|")
    .split("|")
)
WHY = (
    """because nobody else would|but it was far too heavy|and everybody laughed|so we all went home|although it rained
and then vanished|which made us very proud|but the price was absurd|before anyone could object|while the band played
as if nothing had happened|and that was the problem|but maybe I am wrong|and I could not believe it|if you ask me
and the room went quiet|so please be careful|which is hard to prove|and we were both amazed|or so they say
""".strip()
    .replace("\n", "|")
    .split("|")
)
FRAMES = (
    "{who} {did} {thing} {where}.",
    "{who} {did} {thing}, {why}.",
    "{where}, {who} {did} {thing}.",
    "Do you know why {who} {did} {thing}?",
    "I heard that {who} {did} {thing} {where}, {why}.",
    "Perhaps {who} {did} {thing}, and perhaps {who2} {did2} {thing2}.",
    "Imagine, {who} {did} {thing} {where}!",
    "When {who} {did} {thing}, {who2} {did2} {thing2}.",
    "No, it was {who} who {did} {thing} {where}.",
    "First {who} {did} {thing}, then {who2} {did2} {thing2} {where}.",
)


def sentence(k: int) -> str:
    """The text of sentence number `k` >= 0: the plain list first, then as many as you like from the phrases."""
    if k < len(PLAIN):
        return PLAIN[k]
    rng = np.random.default_rng([77, k])

    def pick(phrases) -> str:
        return phrases[rng.integers(len(phrases))]

    text = pick(FRAMES).format(
        who=pick(WHO), did=pick(DID), thing=pick(THING), where=pick(WHERE), why=pick(WHY), who2=pick(WHO),
        did2=pick(DID), thing2=pick(THING),
    )  # fmt: skip
    return text[0].upper() + text[1:]


def sentence_id(k: int) -> str:
    return f"own_{k:05d}"
