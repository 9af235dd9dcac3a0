"""The sentences that any plot may use: openings, things seen on the way, who said it and how.

This file is data. A line `= name` begins a rule; each line after it is one alternative, and lines
that begin with a space continue the line before. fastlm.corpus.stories explains the marks. The
hero is {N} (he, him, his), the friend {F} (he2 ...), the elder {E} (he3 ...), the helper the {H}
(he4 ...); the pronouns follow the person, so "{he}" may be told as "she".
"""

SENTENCES = r"""
= open
[Once upon a time|Once|Long ago|A long time ago], [in a [little|small|quiet|busy|pretty] {village}
 [near|by|beside] <near>,|] there [was|lived] a <trait> {kind} [named|called] {N}. <more>
{N} was a <trait> {kind} who [loved|liked] to <hobby>[ and <hobby>|]. <more>
There was once a <trait>[ and <trait>|] {kind} [named|called] {N}. <more>
[Near|Beside|Not far from|Close to] <near>, there lived a {kind} [named|called] {N}. [{^he}|{N}] was
 <trait> and <trait>. <more>
{N} the {noun} and {his} {E} lived in a [<size> <color>|<cozy>] [house|cottage|home] [near|beside]
 <near>. <more>
In a {village} [near|beside|by] <near>, a {kind} [named|called] {N} lived with {his} {E}. <more>
{N} [lived|had a <cozy> home] [near|beside|close to] <near>. [{^he} was|Everyone said {he} was] a
 <trait> {kind}. <more>
Everybody in the {village} knew {N}, [the|a] <trait> {kind} who [loved|liked|always wanted] to
 <hobby>.
A <trait> {kind} [named|called] {N} [loved|liked] to <hobby>. <more>
{N} was [only|just] [four|five|six|seven] years old, but {he} was already a very <trait> {noun}.
 <more>
In a [<size> <color>|<cozy>] [house|cottage] lived a {kind}. {^his} name was {N}, and {he} was
 <trait>. <more>
{N} the {noun} was known for being <trait>. <more>
This is a story about {N}, a <trait> {kind} who [lived|had a home] [near|close to] <near>. <more>
[Where|In a place where] <flower> grew and <bird+> sang, there was a <trait> {kind} [named|called]
 {N}. <more>
{N} the {noun} had a dream: {he} wanted to be as <trait> as a <creature>. <more>
Of all the [little ones|young ones] in the {village}, {N} was the most <trait>. {^he} was a {kind}.
 <more>
A <helper>, a <helper>, and a <trait> {kind} [named|called] {N} all lived [near|beside] <near>.
 <more>
[High|Up] on a hill [near|above] <near> stood a [<size> <color>|<cozy>] house. There lived {N}, a
 <trait> {kind}. <more>
= more
[Every|Each] [day|morning|afternoon|evening], {he} [liked|loved] to <hobby>.
{^he} [liked|loved] to <hobby>, and {his} {E} liked to <hobby2>.
{^his} favorite [color was <color>|food was <food>|animal was the <creature>|tree was the <tree>].
{^he} [always|often|almost always] wore <colorwear>.
{^he} had [a|one] <adj-thing> <keepsake> and a <color> <toy>, and {he} [kept|hid] them [under {his}
 bed|in a box|on a shelf].
{^his} {E} [often|always] [made|cooked] <food> for {him}.
{^he} [knew|had learned] how to <hobby2>, and {he} was [very|really] [good at it|proud of it].
[Most|Some] days, {he} liked to sit [near|beside|under] [a|an old|a big] <tree> and [watch|count]
 the <bug+>.
{^he} did not like <food>, but {he} [loved|could eat a lot of] <food>.
{^he} wanted to be a <helper> one day.
{^he} and {his} {E} [often|sometimes] ate <food> [together|by the window|in the garden].
{^he} had [two|three|four|five] <color> <marble+>, a <adj-thing> <toy>, and a [box|jar|drawer] full
 of <keepsake+>.
{^he} [could|was able to] <hobby> for hours, and {he} [never got tired|liked <treat+> most of
 all|hardly ever cried].
Nobody in the {village} could [eat as many <treat+> as {he} could|<hobby2> as well as {he} could].
{^his} {E} was a <helper> who [loved <food>|told stories about <creature+>|wore <colorwear>|had a
 <color> <keepsake>].
{^his} room was full of <color> <keepsake+> and <adj-thing> <toy+>.
{^he} wore <colorwear>, and {his} [best thing|greatest treasure] was [a|an old] <adj-thing>
 <keepsake>.
Some said that {he} was [more <trait> than a <creature>|the most <trait> {noun} in the {village}].
For [breakfast|lunch|supper], {he} liked <food> and a cup of <drink>.
{^he} dreamed of [a <color> <toy>|being a <helper>|a house full of <creature+>|flying like a
 <bird>|seeing a <creature>].
{^his} {E} called {him} "my [little|sweet|brave|small] <creature>" because {he} [liked <food> so
 much|slept so long|was so <trait>|was always so <trait>].
= colorwear
a <color> <wear>
a <color> <wear> and a <color> <wear>
<color> [boots|socks|mittens]
a <adj-thing> <wear>
= wear
hat
coat
scarf
sweater
jacket
cap
= marble
marble
balloon
pencil
ribbon
button
shell
feather
book
= hobby2
bake <flavor> pies
sing
draw <creature+>
tell [funny|long] stories
play the <instrument>
whistle like a <bird>
grow <flower>
make <food>
count to [ten|twenty|fifty|one hundred]
catch a ball
dance
paint <flower>
name all the <bird+>
knit <color> socks
juggle [two|three|four] <fruit+>
walk like a <creature>
draw a <color> <creature>
fold paper <bird+>
make <drink>
bake <treat+>
peel a <fruit>
carve a <keepsake>
sing like a <bird>
= day
One <fair> {part},
One <fair> {season} {part},
On a <fair> {part},
It was a <fair> {part}, and
One {weekday} {part},
It was {weekday}, and
One day,
Then, one <fair> {part},
One {part}, when the [sun was [bright|warm|high|golden]|sky was [clear|blue|full of clouds]],
One {part} in {season},
On {weekday},
After [breakfast|lunch],
= aside
A <bird> [sang|sat|rested|hopped] in [a|the] <size> <tree>.
[The air|Everything|The wind] [smelled|seemed to smell] of <smell>.
[A|One] <color> <bug> [flew|crawled|sat|rested] on [a|one] [leaf|stone|twig].
The [sun|sky|grass|light] was <fair2>, and the <bird+> were [singing|busy|calling|awake].
There were <color> and <color> <flower> [everywhere|all around|near the path].
[Far away|Somewhere], a [dog barked|bell rang|rooster crowed|train whistled|<bird> called].
[Two|Three|Four] <bird+> [flew|hopped] [by|past|over {his} head].
The clouds looked like [big|little|fat|fluffy] <creature+>.
[Soft|Cool|Warm] wind [moved|shook|tickled] the <flower>.
A <helper> [waved|nodded|called hello] from [far away|the road|across the way].
A <trait> <creature> [ran|hopped|crept|came] [by|past|out of the grass] [and looked at {him}|with a
 <fruit> in its mouth|and sniffed at a <treat>].
Some <bug+> [danced|buzzed|flew] around a [bush|bed|ring] of <color> <flower>.
[Someone|Somebody] had left [a|an old] <adj-thing> <keepsake> and a <color> <wear> on a
 [fence|bench|rock].
In the [distance|shade of a <tree>], a <helper> [ate <food>|was busy with a <keepsake>|hummed a
 tune|sold <treat+>].
The wind [played with|picked up|chased] a <color> [leaf|feather|paper bag|ribbon], and a <pet> [ran
 after|barked at|jumped at] it.
A <bird> and a <bird> [fought over|shared|dropped] a <fruit>.
[There was a smell of|You could smell] <smell> and <smell>.
[High up|Up] in a <tree>, a <bird> [fed its chicks|built a nest|shook its wings|looked down].
On a [stone|leaf|stump], a <color> <bug> [cleaned its legs|slept in the sun|looked at a <bug>].
{N} [picked|found|put away] a <color> [leaf|stone|feather] [for {his} {E}|to keep|for luck].
{N} [ate a|had a|thought of a] <treat> and [hummed|whistled] a [song|tune] about <creature+>.
Two <creature+> [chased each other|played with a <fruit>|slept] [under|behind|beside] a <tree>.
The [path|ground|grass] was [wet|dry|warm|full of <flower>|covered with leaves], and a <bug>
 [crossed|crawled over] {his} foot.
A [cloud|shadow] [shaped|that looked] like a <keepsake> [went|moved|passed] over the [sun|hill|sky].
Somewhere a <helper> [laughed|sang|shouted], and a <bird> [answered|flew up].
A [boy|girl|man|woman] with a <color> <wear> [walked|ran|rode] [by|past] and [smiled|waved|said
 hello].
= fair2
bright
warm
golden
lovely
soft
= Ns
{N} said, <gestN>
{N} said, <gestN>
{N} said
said {N}
{he} said
{N} said [quietly|slowly|after a moment|in a low voice]
said the {noun}
= gestN
rubbing {his} nose
hopping on one foot
with a mouth full of <food>
pointing at a <bird>
scratching one ear
holding up a <keepsake>
looking at a <bug>
waving a <fruit>
pulling at {his} <wear>
with both hands in the air
like a <trait> <creature>
turning as red as a [cherry|tomato|strawberry|beet|poppy|brick]
wiping {his} [hands|nose|face]
breathing hard
as if {he} were a <helper>
= gestF
rubbing {his2} nose
hopping on one foot
with a mouth full of <food>
pointing at a <bird>
scratching one ear
holding up a <keepsake>
looking at a <bug>
waving a <fruit>
pulling at {his2} <wear>
with both hands in the air
like a <trait> <creature>
turning as red as a [cherry|tomato|strawberry|beet|poppy|brick]
wiping {his2} [hands|nose|face]
breathing hard
as if {he2} were a <helper>
= Nr
{N} answered
{he} answered
{N} said
{N} replied
said {N}
= Na
{N} asked
{he} asked
asked {N}
{N} wondered
{N} asked [quietly|slowly|after a moment|in a low voice]
{N} wanted to know
asked the {noun}
= Nh
{N} [cried|shouted|called|laughed|cheered], <gestN>
{N} said <brightly>
{N} said <brightly>
{N} [cried|shouted|called|laughed|cheered]
{he} [cried|shouted|called|laughed|cheered]
[cried|shouted|laughed] {N}
= Nsad
{N} said <sadly>
{N} [whispered|cried|sobbed|sighed]
{he} [whispered|cried|sobbed|sighed]
[whispered|cried|sobbed|sighed] {N}
= Fs
{F} said, <gestF>
{F} said, <gestF>
{F} said
said {F}
{F} said [quietly|slowly|after a moment|in a low voice]
{he2} said
the {noun2} said
said the {noun2}
= Fsad
{F} said <sadly>
{F} [whispered|sobbed|sighed]
{he2} [whispered|sobbed|sighed]
[whispered|sobbed|sighed] {F}
= Fa
{F} asked
asked {F}
{F} wanted to know
{he2} asked
asked the {noun2}
= Fh
{F} [cried|shouted|called|laughed|cheered], <gestF>
{F} said <brightly>
{F} [cried|shouted|called|laughed|cheered]
[cried|laughed|shouted] {F}
= Es
{his} {E} said
said {his} {E}
{his} {E} said <softly>
{his} {E} told {him}
= Ea
{his} {E} asked
asked {his} {E}
{his} {E} asked <softly>
= Hs
the {H} said
said the {H}
the {H} said <softly>
the [kind|old|friendly] {H} said
= sorrow
{N} [felt|was] [very|so|a little|really] <sad>. [<tears>|]
[This made|That made|It made] {N} [very|so|] <sad>. [<tears>|]
{N}'s [face fell|eyes filled with tears|smile went away|lip shook]. {^he} [felt|was] <sad>.
{N} felt as <sad> as a <creature> without [a home|friends|food|its mother].
Even <food> could not have [cheered {him} up|made {him} smile] now.
{N} sat there like a wet <creature>.
= tears
{^he} [began|started] to cry.
A tear [ran|rolled] down {his} [cheek|nose].
{^he} [sat down|sat] and [sniffed|sighed|looked at the ground].
{^he} did not know what to do.
{^his} [heart|tummy|chest] [felt heavy|hurt|felt cold].
= joy
{N} [felt|was] [so|very|really|] <glad>.
{N} [jumped|danced|hopped|spun] [with joy|around|up and down] and [laughed|smiled|sang].
[A|The biggest] smile [came|spread] over {N}'s face.
{N} [clapped|laughed|cheered] and [felt|was] <glad>.
{N} could not stop [smiling|laughing].
{N} was so <glad> that {he} [danced|hummed|skipped|laughed] all the way [home|back].
{N} was as <glad> as a <creature> with a <treat>.
{N} felt as light as a [feather|<bird>|cloud|leaf] and [sang|hummed] a song about <creature+>.
{N} [danced|jumped|spun] like a <trait> <creature>.
= hug
{N} [hugged|thanked] {F}[ and smiled|].
{N} and {F} [hugged|laughed|smiled at each other|danced around].
{N} gave {F} a [big|warm|long|tight] hug.
The two friends [hugged|laughed|held hands|smiled].
{N} and {F} shared a <treat> and a <fruit>.
{F} gave {N} a <color> <keepsake> as a [present|gift|thank-you].
{N} and {F} danced like two <trait> <creature+>.
= Ehug
{^his} {E} [hugged|kissed|held] {him}[ tight| close|].
{N} [ran to|hugged] {his} {E}.
{^his} {E} gave {him} a [big|warm|long|tight] hug.
{N} and {his} {E} [laughed|smiled|hugged].
= worry
{^he} took a [deep|slow] breath.
{^his} [heart|tummy] [beat fast|felt funny|jumped].
{^he} [bit {his} lip|closed {his} eyes|held {his} breath].
{^his} knees [shook|felt weak].
{^he} [swallowed|blinked] and [looked around|stood very still].
{^he} felt like a [little|small] <creature> in front of a [big|hungry|growling]
 [bear|tiger|wolf|lion].
{^his} legs were as [soft|weak|heavy] as <food>.
{^he} thought of <flower>, of <food>, and of {his} {E}, and felt a little [better|calmer|braver].
{^he} [held on to|squeezed] the <keepsake> in {his} pocket.
{^he} [turned as white|was as pale] as a [sheet|cloud|<bird> feather].
{^he} [wished|almost wished] to be as <trait> as a <creature>.
= think
{N} [thought|thought hard|sat down to think|rubbed {his} chin].
{N} [thought|wondered] [for a while|for a long time|about it]. Then {he} had an idea.
[Soon|Then|All at once], {N} had a [good|great|clever|new] idea.
{N} [closed {his} eyes|looked up at the sky|scratched {his} head] and thought.
{N} [ate a <treat> and thought|looked at a <bug> and thought|drew a <creature> in the [sand|dust]
 and thought].
{N} thought of what a <helper> [would do|had once said].
{N} [asked {himself}|wondered] what a <trait> {noun} would do.
= home
[That night|That evening|In the evening|Later], {N} [ate|had] <food> and [told {his} {E} about
 it|went to bed early|fell asleep with a smile].
[That night|At bedtime], {N} [fell asleep|dreamed] [with a smile|of <color> <bug+>|thinking of
 <flower>].
[Then|After that], they [all|both|] [ate|shared] <food> and [drank|had] <drink>.
[When the sun went down|At the end of the day|Before bed], {N} [told {his} {E} all about [it|the
 day]|asked {his} {E} for [a|one more] story|read a book about <bird+>].
[That night|At supper], {his} {E} made <food>, and everything tasted [wonderful|better than
 ever|very good].
[From that day on|After that day], {N} [smiled|was <glad>] [every time {he} saw a <bird>|each time
 {he} passed <near>|whenever {he} ate <food>].
[That night|That evening], {N} and {his} {E} ate <food> and talked about <creature+>.
[That night|Later], {N} dreamed of a <trait> <creature> with a <color> <wear>.
Before [bed|sleep], {N} drew a picture of it all: a <color> <keepsake>, a <creature>, and [the
 sun|the moon|a <tree>].
{N} wrote [it|all of it] down in a <color> book, next to a drawing of a <creature>.
To [celebrate|finish the day], {his} {E} made <food>, and they each had a <treat>.
= wise
{N} [never forgot|always remembered|often thought about] [that|this] <fair> day.
{N} [thought|smiled] about [it|that] for [many days|a long time|weeks].
{N} felt a little [older|bigger|wiser|braver] that [day|night].
= learned
{N} [learned|had learned|knew now|understood|saw] that
[That day|On that day|That night], {N} [learned|understood|knew] that
From [then|that day] on, {N} [remembered|knew|never forgot] that
And {N} [learned|understood|knew] that
{N} [smiled|nodded] and [knew|understood] that
{^his} {E} [always|often] said that
In the end, {N} could [see|tell] that
= meetF
{^his} [best|good|new|dear] friend was a <trait> {kind2} [named|called] {F}.
{^his} friend {F}, a <trait> {kind2}, [lived|had a house] [next door|nearby|across the road|down the
 road].
{^he} had a friend [named|called] {F}, who was a <trait> {kind2}.
{^he} [often|always] played with {F}, a <trait> {kind2}.
= came
[There|On the way|Near the gate], {he} [met|saw] {F}, a <trait> {kind2}.
[Soon|Just then|After a while], a {kind2} [named|called] {F} came [along|by|over].
A <trait> {kind2} [named|called] {F} [was there, too|came to see|waved to {him}|came with {him}].
{^his} friend {F}, a {kind2}, [came along|came with {him}|was there, too].
= play
{^they} played <game>[ and <game>|].
{^they} [sang|danced|ran] and played <game>.
{^they} [climbed <tree+>|looked at <bug+>|picked <flower>|chased <bug+>|splashed in puddles].
{^they} made [a crown|chains] out of <flower> and talked about <creature+>.
{^they} looked for <keepsake+> and found a <adj-thing> <keepsake>.
{^they} pretended to be a <trait> <helper> and a <trait> <creature>.
= they
[{N} and {F}|the friends|they|the two]
= notfind
{^he} <looked> <spot@place>, but it was not there.
{^he} [went|walked|ran] back and <looked> <spot@place>. [There was nothing|Nothing|It was not
 there], only [a|an old] <keepsake>.
<^spot@place>, {he} <found> a <bug>, but not the {toy}.
{^he} <looked> <spot@place>. All {he} <found> was [a|an old] <color> <keepsake>.
{^he} asked a <helper>, but nobody had seen it.
{^he} <looked> <spot@place> and then <spot@place>, but [there was no {toy}|found nothing].
= riddle
What has a face and two hands but no [arms|legs|nose]?" {N} [thought|counted on {his} fingers].
 {^he} looked at [the sun|{his} shadow]. Then {he} had it. "A clock!" <Nh>.
What has teeth but [never eats|can not bite]?" {N} [thought|looked into the water]. The wind
 [blew|pulled] {his} hair into {his} face. "A comb!" <Nh>.
What gets wetter the more it dries?" {N} [thought|shook {his} head]. {^he} remembered [bath day|the
 bath at home]. "A towel!" <Nh>.
What runs all day but has no [feet|legs]?" {N} [listened|looked down]. Under the bridge, the water
 [sang|laughed]. "A river!" <Nh>.
What has [many|a hundred] ears but can not hear?" {N} [thought|walked up and down]. There was a
 [field|farm] behind {him}. "A field of corn!" <Nh>.
What can you [give|make] and still have to keep?" {N} [thought|closed {his} eyes] and remembered
 what {his} {E} had told {him}. "A promise!" <Nh>.
What goes up when the rain comes down?" {N} [thought|looked at the sky]. A drop fell on {his} nose.
 "An umbrella!" <Nh>.
What has one eye but can not see?" {N} [thought|scratched {his} ear]. {^he} looked at the [hole
 in|patch on] {his} sleeve. "A needle!" <Nh>.
What has [a neck|a round belly and a neck] but no head?" {N} [thought|was thirsty and reached into
 {his} bag]. "A bottle!" <Nh>.
What is full of holes but can hold water?" {N} [thought|thought of washing day]. "A sponge!" <Nh>.
= sound2
a [loud|sudden] [crack|squeak|bump]
something [soft|cold|furry]
= aside in
The {pet} [slept|sat] <indoors>.
{^his} {E} [hummed|sang] a song in the kitchen.
[It|The house] smelled of <smell>.
A <bug> sat [on|at] the window.
{^his} {E} was busy with the <wear+>.
{^his} {E} made <food>, and [the house|the room] smelled of <smell>.
A <color> <keepsake> [lay|stood] [on|beside] the [shelf|table|chair], next to a <adj-thing> <toy>.
The clock [ticked|struck {n}], and the {pet} [yawned|stretched|ate a <treat>].
= failbuild
[First|At first|To begin|In the beginning], they [tied|stacked|set] the {material} [too high|too
 fast|on soft ground], and it [all|] [fell|came] down with a [crash|bump|thump].
Then [a gust of wind|a big <creature>|a rolling ball|a sleepy <pet>] [bumped|pushed|hit] it, and
 [one|a whole] side [fell|broke] off.
[The next|Another] time, it [leaned|tipped|shook] like a [tired|sleepy] <creature>, and then it
 [fell over|came apart].
[They|The friends] tried with <color> [string|rope|ribbon], but the knots [came loose|were too
 weak|slipped].
= failride
{^he} [wobbled|swayed|leaned] like a [newborn|sleepy|little] <creature> and [fell|landed] [in the
 <flower>|on the grass|in a puddle].
{^he} tried [again|once more|with {his} eyes closed|very slowly], but {he} [bumped into|crashed
 into|rolled into] a <tree>.
[Then|Next], {he} [fell|slipped] and got a [tiny|small|big] [bruise|scratch] on {his}
 [knee|elbow|arm].
= failopen
{^he} [pulled|pushed|shook] it with both hands, but it [would not|did not] [move|open].
{^he} [knocked|tapped] on it with a [stick|stone|<keepsake>], but [nothing happened|it stayed shut].
Then {F} [pulled|pushed] [as well|with all {his2} strength], but it [did not|would not] [move|open].
They [tried|used] a [stick|rope|flat stone], but it [broke|slipped|was too short].
"""
